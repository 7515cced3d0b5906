"""The verdict on which student of a run is better."""

import pytest

from src_training.evaluation.verdict import judge


def scores(images):
    values = list(images.values())
    return {
        "mean": {"dice": sum(values) / len(values)},
        "images": {name: {"dice": dice} for name, dice in images.items()},
    }


def report(baseline, distilled, domain="DRIVE"):
    """Dice of the images of both students on one domain."""
    names = [f"im{n}" for n in range(len(baseline))]
    return {
        role: {"scores": {domain: scores(dict(zip(names, dice, strict=True)))}}
        for role, dice in (("baseline", baseline), ("distilled", distilled))
    }


SPREAD = (0.60, 0.66, 0.72, 0.64, 0.70, 0.68)


def shifted(by):
    return [dice + shift for dice, shift in zip(SPREAD, by, strict=True)]


def test_a_student_that_gains_on_every_image_is_offered():
    verdict = judge(report(SPREAD, shifted([0.05, 0.07, 0.06, 0.05, 0.07, 0.06])))
    assert (verdict.better, verdict.clear) == ("distilled", True)
    assert verdict.sentence.startswith(
        "Distillation helped at equal steps: Dice baseline 0.667, distilled 0.727 on DRIVE"
    )
    assert verdict.sentence.endswith(
        "the distilled student is offered. No control at equal time was trained."
    )


GAIN = [0.05, 0.07, 0.06, 0.05, 0.07, 0.06]


def timed(found, role, steps, seconds):
    found[role] |= {"steps": steps, "step_seconds": seconds / steps}
    return found


@pytest.mark.parametrize(
    ("alone", "said"),
    [
        ([0.01] * 6, "Distillation helped, at equal time too"),
        (GAIN, "Distillation helped at equal steps, not clearly at equal time"),
        ([0.1] * 6, "Distillation helped at equal steps, not clearly at equal time"),
    ],
)
def test_a_gain_is_judged_beside_its_control(alone, said):
    control = timed(report(SPREAD, shifted(alone)), "distilled", 1200, 301)
    verdict = judge(timed(report(SPREAD, shifted(GAIN)), "distilled", 400, 300), control)
    assert verdict.headline == said
    assert (
        "without a teacher (1,200 steps, 5 min 1 s; distillation 5 min): Dice" in verdict.sentence
    )


def test_what_a_missing_control_would_cost_is_said():
    found = timed(report(SPREAD, shifted(GAIN)), "distilled", 400, 300)
    slow = judge(timed(found, "baseline", 400, 100))
    assert slow.control.startswith("No control at equal time was trained: distillation took 3.0")
    assert "(5 min of distillation, 1 min 40 s of the baseline)" in slow.sentence
    equal = judge(timed(found, "baseline", 400, 290))
    assert equal.headline == "Distillation helped, at equal time too"
    assert equal.control.startswith("The baseline is a control at equal time, too")


def test_a_student_without_a_teacher_is_a_control():
    found = report(SPREAD, shifted(GAIN))
    found["distilled"]["taught"] = False
    verdict = judge(found)
    assert verdict.sentence.startswith("A control, trained without a teacher: Dice baseline 0.667")
    assert "control 0.727" in verdict.sentence and "distil" not in verdict.sentence
    assert verdict.offered == "the control"


def test_a_student_that_loses_is_not_offered():
    verdict = judge(report([0.16, 0.17, 0.15, 0.18, 0.16], [0.0] * 5))
    assert (verdict.better, verdict.clear) == ("baseline", True)
    assert verdict.sentence.startswith(
        "Distillation did not help here: Dice baseline 0.164, distilled 0.000 on DRIVE"
    )
    assert "the baseline (trained without distillation) is offered" in verdict.sentence


def test_no_clear_difference_is_said_as_such():
    verdict = judge(report(SPREAD, shifted([0.1, -0.1, 0.08, -0.05, 0.07, -0.06])))
    assert not verdict.clear
    assert verdict.headline == "No clear difference between baseline and distilled student"


def test_a_difference_too_small_to_matter_is_no_gain():
    verdict = judge(report(SPREAD, shifted([0.001] * 6)))
    assert not verdict.clear and verdict.sentence.startswith("No clear difference")


def test_two_useless_students_are_called_that():
    verdict = judge(report([0.02] * 6, [0.05] * 6))
    assert verdict.sentence.startswith("Neither student segments usefully yet")


def test_one_patient_has_no_interval():
    verdict = judge(report([0.5], [0.7]))
    assert verdict.better == "distilled" and not verdict.clear
    assert "one patient, so there is no interval" in verdict.sentence


def test_few_patients_are_counted():
    assert "only 3 patients" in judge(report([0.5, 0.5, 0.6], [0.7, 0.7, 0.7])).sentence


def test_equal_students_are_a_tie():
    verdict = judge(report(SPREAD, shifted([-0.0001] * 6)))
    assert verdict.tied and verdict.better == "distilled"
    assert "difference 0.000, 95 % interval 0.000 to 0.000" in verdict.sentence


def test_a_teacher_far_ahead_is_named():
    students = report(SPREAD, SPREAD)
    assert "teacher" not in judge(students).sentence
    students["teacher"] = {"scores": {"DRIVE": scores({"im0": 0.8})}}
    assert "The teacher reaches 0.800" in judge(students).sentence


def test_test_domains_decide_where_there_are_any():
    both = report([0.8] * 5, [0.9] * 5, "A, validation")
    for role, dice in (("baseline", 0.5), ("distilled", 0.3)):
        for name in ("B", "C"):
            both[role]["scores"][name] = scores({f"{n}": dice for n in range(5)})
    verdict = judge(both)
    assert verdict.better == "baseline"
    assert "on average over B, C" in verdict.sentence
    validation = judge(report([0.8] * 5, [0.9] * 5, "A, validation"))
    assert "on the validation images of A" in validation.sentence


def test_reports_without_images_are_judged_by_their_intervals():
    def wide(dice, half):
        return {"mean": {"dice": dice}, "interval": {"dice": [dice - half, dice + half]}}

    def two(half):
        return {
            role: {"scores": {"B": wide(dice, half)}}
            for role, dice in (("baseline", 0.6), ("distilled", 0.7))
        }

    assert judge(two(0.04)).clear and not judge(two(0.06)).clear


def test_without_a_common_score_there_is_no_verdict():
    unscored = {role: {"scores": {}} for role in ("baseline", "distilled")}
    assert judge(unscored) is None
