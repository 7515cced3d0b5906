"""Choice of datasets: folders and open layers."""
