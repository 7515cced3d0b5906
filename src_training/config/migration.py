"""Recipes of former versions, turned into the present format."""

from src_training.data.preprocessing import migrate_preprocessing


def migrate_recipe(content: object) -> tuple[object, list[str]]:
    """Turn a recipe of a former version into one of the present version.

    Parameters
    ----------
    content
        Parsed YAML; need not be valid.

    Returns
    -------
    object
        The present content; the same as `content` where nothing is of a former version.
    list of str
        A sentence on each part that changed.

    Examples
    --------
    >>> content, changes = migrate_recipe({"preprocessing": {"kind": "minmax", "side": 64}})
    >>> content
    {'preprocessing': {'kind': 'intensity', 'side': 64, 'percentiles': (0.0, 100.0)}}
    >>> changes
    ['preprocessing of a former version is read as kind intensity']
    """
    if not isinstance(content, dict):
        return content, []
    changes = list[str]()
    former = content.get("preprocessing")
    if isinstance(former, dict) and (present := migrate_preprocessing(former)) != former:
        content = content | {"preprocessing": present}
        changes.append(f"preprocessing of a former version is read as kind {present['kind']}")
    return content, changes
