"""What a report says in sentences: what was found, and what the model must not be used for."""

from collections.abc import Iterable

from partsig.data.signals.hypnograms.stages import STAGES
from partsig.sleep.report.agreement import FEW

# Kappa of two people who score the same recordings, pooled over 11 studies, and of N1 among them
# (Lee et al. 2022, J Clin Sleep Med 18:193, doi 10.5664/jcsm.9538).
HUMANS, HUMANS_LOW, HUMANS_HIGH, HUMANS_N1 = 0.76, 0.71, 0.81, 0.24
# "Fair" and below (Landis and Koch 1977).
POOR = 0.40
# Whom the source's recordings are of.
POPULATIONS = {
    "physionet2018": "adults examined for suspected sleep apnoea at one hospital",
    "pc18-segments": "adults examined for suspected sleep apnoea at one hospital",
    "sleep-edf": "healthy adults and adults with mild trouble falling asleep",
}


def number(value: float | None, digits: int = 2) -> str:
    """Return a number as text, a true minus before negative ones.

    >>> number(-0.5), number(-0.001), number(None)
    ('−0.50', '0.00', 'undefined')
    """
    if value is None:
        return "undefined"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")  # + 0: no −0


def with_interval(measured: dict, digits: int = 2, times: float = 1.0) -> str:
    """Return a measured value with its interval as text.

    >>> with_interval({"value": 0.5, "interval_95": [0.4, 0.62]})
    '0.50 (0.40 to 0.62)'
    """
    if measured["value"] is None:
        return "undefined"
    value, (low, high) = measured["value"], measured["interval_95"]
    if low is None:
        return f"{number(times * value, digits)} (no interval)"
    ends = " to ".join(number(times * end, digits) for end in (low, high))
    return f"{number(times * value, digits)} ({ends})"


def ends(measured: dict) -> str:
    """Return the interval of a measured value as text."""
    low, high = measured["interval_95"]
    return "none" if low is None else f"{number(low)}–{number(high)}"


def count_noun(n: int, what: str = "subject") -> str:
    """Return a count with its noun.

    >>> count_noun(1), count_noun(1200, "epoch")
    ('1 subject', '1,200 epochs')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def verdict(results: dict) -> list[str]:
    """Return what was found, the most important first, no more than the figures bear."""
    kappa = results["kappa"]
    lines = [
        f"On {count_noun(results['n_subjects'])} "
        f"({count_noun(results['n_recordings'], 'recording')}, "
        f"{count_noun(results['n_epochs'], 'epoch')}) whose stages the model never saw, model and "
        f"scorer agree with Cohen's kappa {with_interval(kappa)}; in brackets, here and below, are "
        f"95 % intervals over subjects. The same stage is given to "
        f"{with_interval(results['accuracy'], 0, 100)} % of the epochs."
    ]
    lines += _missing(results["model"], results["n_recordings"])
    if results["scorers"]:
        lines += [_beside(name, scorer) for name, scorer in results["scorers"].items()]
    elif kappa["value"] is not None:
        lines.append(_elsewhere(*kappa["interval_95"]))
    lines += _spread(results)
    known = [row for row in results["stages"] if row["recall"]["value"] is not None]
    if known:
        worst = min(known, key=lambda row: row["recall"]["value"])
        lines.append(
            f"The stage found least often is {worst['stage']}: of {worst['epochs']:,} epochs that "
            f"were scored so, the model calls {with_interval(worst['recall'], 0, 100)} % so too."
        )
    tst = results["bland_altman"]["TST"]
    if "bias" in tst and not _excerpts(results):
        lines.append(
            f"Total sleep time of one recording differs from the scorer's by "
            f"{number(tst['lower'], 0)} to {number(tst['upper'], 0)} min (limits of agreement, "
            f"which hold 19 recordings of 20), by {number(tst['bias'], 0)} min on average."
        )
    review = review_line(results["review"])
    if review:
        lines.append(review)
    return lines


def _missing(model: dict, n: int) -> list[str]:
    """Return which of the model's channels these recordings lack; nothing where all are there."""
    if not model["channels_missing"]:
        return []
    told = ", ".join(f"{name} in {k:,} of {n:,}" for name, k in model["channels_missing"].items())
    return [
        f"Channels of the model are missing in these recordings, zeros in their place: {told}. Of "
        f"the model: {model['channel_dropout']}."
    ]


def _excerpts(results: dict) -> bool:
    """Tell whether most recordings are too short for a night."""
    return 2 * results["n_short"] > results["n_recordings"]


def _elsewhere(low: float | None, high: float | None) -> str:
    """Return how an interval of kappa compares with people's, of other recordings."""
    if low is None:
        place = "one subject cannot be compared with that"
    elif high < HUMANS_LOW:
        place = "the model stays below that"
    elif low > HUMANS_HIGH:
        place = "the model lies above that, as it may where recordings are easy to score"
    else:
        place = "the interval above does not tell the model from that"
    return (
        f"Two people who score the same nights reach {HUMANS:.2f} ({HUMANS_LOW:.2f} to "
        f"{HUMANS_HIGH:.2f}) in other studies: {place}. How far people agree on these recordings "
        "is not known; a second person's hypnograms (--scorer) would tell."
    )


def _beside(name: str, scorer: dict) -> str:
    """Return how the model compares with another person on the same epochs."""
    gain = scorer["gain_first"]
    low, high = gain["interval_95"]
    if low is None:
        conclusion = "too few subjects to say more"
    elif high < 0:
        conclusion = "the model agrees less with the first scorer than the other person does"
    elif low > 0:
        conclusion = "the model agrees more with the first scorer than the other person does"
    else:
        conclusion = "no difference could be shown, which does not show that there is none"
    return (
        f"On the same {count_noun(scorer['n_epochs'], 'epoch')} of "
        f"{count_noun(scorer['n_subjects'])}, {name} and the first scorer agree with kappa "
        f"{with_interval(scorer['first_second'])}, the model and the first scorer with "
        f"{with_interval(scorer['model_first'])}: a difference of {with_interval(gain)}; "
        f"{conclusion}."
    )


def spread_of_recordings(kappas: Iterable[float | None]) -> list[str]:
    """Return how far recordings differ; nothing where fewer than two have a kappa."""
    each = [value for value in kappas if value is not None]
    if len(each) < 2:
        return []
    poor = sum(value < POOR for value in each)
    return [
        f"Recordings differ: kappa goes from {number(min(each))} to {number(max(each))}, and "
        f"{poor:,} of {len(each):,} are below {POOR:.2f}, where agreement is called fair at "
        "most. A good figure for all says little about one."
    ]


def few_subjects(n: int) -> list[str]:
    """Return what few subjects mean for an interval; nothing of many."""
    if n >= FEW or not n:
        return []
    if n == 1:
        return ["One subject tells nothing of others: there is no interval."]
    return [f"{count_noun(n)} are few: the true interval is wider than the one given."]


def _spread(results: dict) -> list[str]:
    # With one scored stage kappa is 0 or undefined, however many epochs agree.
    rows = [row for row in results["recordings"] if row["n_stages"] > 1]
    lines = spread_of_recordings(row["kappa"] for row in rows)
    lines += few_subjects(results["n_subjects"])
    seen = len(results["model"]["seen_in_pretraining"])
    if seen:
        lines.append(
            f"{seen:,} of the test subjects were seen in pretraining, without their stages: this "
            "is no result on people the model has never met."
        )
    return lines


def review_line(review: dict) -> str:
    """Return what reviewing about a tenth of the epochs is worth; "" where that is undefined."""
    shares = review["share"]
    at = min(range(len(shares)), key=lambda i: abs(shares[i] - 0.10))
    before, after, chance = (
        review["kappa_reviewed"][0],
        review["kappa_reviewed"][at],
        review["kappa_random"][at],
    )
    if shares[0] != 0 or None in (before, after, chance):
        return ""
    way = "rises" if round(after, 2) > round(before, 2) else "goes"
    return (
        f"Review {100 * shares[at]:.0f} % of the epochs, the most doubtful first, and kappa {way} "
        f"from {number(before)} to {number(after)}, if the reviewer decides as the scorer did; as "
        f"many epochs at random give {number(chance)}."
    )


def population(model: dict) -> str:
    """Return whom the training subjects are, as far as that is known."""
    who = POPULATIONS.get(model["source"] or "", "")
    text = f"{count_noun(model['train_subjects'])} of {model['store']}"
    text += f" ({who})" if who else " (who they are is not recorded in the store)"
    if model["ages"]:
        text += ", aged {:.0f} to {:.0f}".format(*model["ages"])
    return text


def filtered(model: dict) -> str:
    """Return the band of the signal as text."""
    band = model["filter"] or {}
    low, high = band.get("l_freq"), band.get("h_freq")
    if low is None and high is None:
        return "not recorded in the run" if not band else "none"
    return f"{'0' if low is None else f'{low:g}'}–{'…' if high is None else f'{high:g}'} Hz"


def limits(results: dict) -> list[str]:
    """Return what the model must not be used for, from this run's own facts where they tell."""
    model = results["model"]
    lines = [
        "No diagnosis and no decision on treatment. This is research software, no medical device; "
        "no authority has cleared it, and its stages replace no trained scorer.",
        f"No other recording than {', '.join(model['ch_names'])} at {model['sfreq']:g} Hz, "
        f"band-pass {filtered(model)}, staged in epochs of 30 s. Other derivations, references or "
        "filters were never tried here.",
        f"No other people than those it learned from: {population(model)}. Nothing on this page "
        "holds for anybody else before it is measured on them.",
    ]
    ages = model["ages"]
    if ages is None:
        lines.append(
            "No children: the ages of the training subjects are not known, and a child's sleep is "
            "scored by rules of its own."
        )
    elif ages[0] >= 18:
        lines.append(
            f"Nobody younger than {ages[0]:.0f} or older than {ages[1]:.0f}: none trained it."
        )
    if model["source"] in ("physionet2018", "pc18-segments"):
        lines.append(
            "No conclusion on breathing: the recordings are rich in apnoeas and arousals, which "
            "the model neither marks nor was compared on."
        )
    if not results["external"]:
        lines.append(
            "No other laboratory: training and test recordings have one source, and other devices, "
            "technicians and scorers usually lower agreement. Evaluating on another store "
            "measures that."
        )
    n1 = results["stages"][STAGES.index("N1")]
    lines.append(
        f"No conclusion that rests on N1: its F1 is {with_interval(n1['f1'])} here, and people "
        f"agree on it with a kappa of {HUMANS_N1:.2f} only. Latencies hang on "
        "single epochs, often of N1."
    )
    tst = results["bland_altman"]["TST"]
    if _excerpts(results):
        lines.append(
            "No statement on a night: most of these recordings are excerpts of less than six hours."
        )
    elif "bias" in tst:
        lines.append(
            f"No sleep time of a single recording as exact: it may be {number(tst['lower'], 0)} to "
            f"{number(tst['upper'], 0)} min off, and a change within that is no finding."
        )
    return lines
