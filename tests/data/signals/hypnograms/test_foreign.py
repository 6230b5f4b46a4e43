"""Hypnograms as other programs write them, after the descriptions of their formats."""

import json
from datetime import datetime

import mne
import pytest

from partsig.data.signals.hypnograms.alignment import find_offset, to_epochs
from partsig.data.signals.hypnograms.reading import TEXTS, read_hypnogram
from partsig.data.signals.hypnograms.settings import HypnogramConfig
from partsig.errors import DataError
from partsig.keys import describe

START = datetime(2020, 2, 1, 23, 58)
# Of five minutes; the first two epochs and the last one are not scored, wherever times can say so.
STAGES = [-1, -1, 0, 1, 2, 3, 4, 4, -1, -1]
SCORED = STAGES[2:8]
CLOCKS = ("23:59:00", "23:59:30", "00:00:00", "00:00:30", "00:01:00", "00:01:30")
WORDS = ("W", "N1", "N2", "N3", "REM")
REMLOGIC = (
    "RemLogic Event Export\nPatient:\tX\nRecording Date:\t01/02/2020\n\n"
    "Events Included:\nSLEEP-S0\n\n"
)
EMBLA = ("SLEEP-S0", "SLEEP-S1", "SLEEP-S2", "SLEEP-S4", "SLEEP-REM")
DOMINO = (
    "Signal ID: SchlafProfil\\profil\nStart Time: {start}\nUnit: \nSignal Type: Discret\n"
    "Events list: N4,N3,N2,N1,Rem,Wake,Movement\nRate: 30 s\n\n"
)
SOMNO = ("Wake", "N1", "N2", "N4", "Rem")
RML = (
    '<?xml version="1.0" encoding="utf-8"?><PatientStudy '
    'xmlns="http://www.respironics.com/PatientStudy.xsd"><Acquisition><Sessions><Session>'
    "<RecordingStart>2020-02-01T23:58:00</RecordingStart><Duration>300</Duration></Session>"
    "</Sessions></Acquisition><ScoringData><StagingData>{}</StagingData></ScoringData>"
    "</PatientStudy>"
)
TYPES = ("Wake", "NonREM1", "NonREM2", "NonREM3", "REM")


def remlogic(
    columns="Sleep Stage\tPosition\tTime [hh:mm:ss]\tEvent\tDuration[s]\tLocation", sep=":"
):
    rows = []
    for at, code in zip(CLOCKS, SCORED, strict=True):
        cells = {"Sleep Stage": "W", "Position": "Left", "Time [hh:mm:ss": at.replace(":", sep)}
        cells |= {"Event": EMBLA[code], "Duration": "30", "Location": "C4"}
        rows.append(
            "\t".join(
                next(v for k, v in cells.items() if c.startswith(k)) for c in columns.split("\t")
            )
        )
    rows.insert(2, rows[1].replace("SLEEP-S1", "MCAP-A1").replace("\t30\t", "\t5\t"))
    return f"{columns}\n" + "\n".join(rows) + "\n\n"


def domino(start="01.02.2020 23:59:00", row="{},000; {}", words=SOMNO):
    return DOMINO.format(start=start) + "".join(
        row.format(at, words[code]) + "\r\n" for at, code in zip(CLOCKS, SCORED, strict=True)
    )


def luna(row, header=""):
    return (
        "# N2 | a stage\n"
        + header
        + "".join(
            row.format(
                WORDS[code].replace("REM", "R"),
                at=60 + 30 * k,
                to=90 + 30 * k,
                e=k + 3,
                clock=CLOCKS[k],
            )
            for k, code in enumerate(SCORED)
        )
    )


def rml(**by):
    parts = []
    for who, codes in by.items():
        own = "".join(
            f'<Stage Type="{TYPES[c]}" Start="{60 + 30 * k}"/>' for k, c in enumerate(codes)
        )
        own += '<Stage Type="NotScored" Start="240"/>'
        parts.append(f"<{who}><NeuroAdultAASMStaging>{own}</NeuroAdultAASMStaging></{who}>")
    return RML.format("".join(parts))


NUMBERS = ["-1", "-1", "0", "1", "2", "3", "5", "5", "-2", "-1"]
WIDE = "class\tinstance\tchannel\tstart\tstop\tmeta\n"
VISBRAIN = (
    "*Duration_sec\t300.0\n*Datafile\tn.edf\nArt\t60\nWake\t90\nN1\t120\n"
    "N2\t150\nN3\t180\nREM\t240\nArt\t300\n"
)
MNE = (
    "# MNE-Annotations\n{}# onset, duration, description\n"
    + "".join(f"{60 + 30 * k}.0, 30.0, Sleep stage {WORDS[c]}\n" for k, c in enumerate(SCORED))
    + "70.0, 1.0, said, with a comma: Arousal\n"
)
FORMATS = {
    "REMlogic": ("n.txt", REMLOGIC + remlogic(), {}),
    "REMlogic, no position, nothing above": (
        "n.txt",
        remlogic("Sleep Stage\tTime [hh:mm:ss]\tEvent\tDuration [s]\tLocation"),
        {},
    ),
    "REMlogic, dots and parts of a second": (
        "n.txt",
        REMLOGIC + remlogic("Sleep Stage\tTime [hh:mm:ss.xxx]\tEvent\tDuration[s]", "."),
        {},
    ),
    "DOMINO": ("n.txt", domino(), {}),
    "DOMINO, twelve hours": ("n.txt", domino("2/1/2020 11:59:00 PM"), {}),
    "DOMINO, dates and tabs": ("n.txt", domino("01/02/2020 23:59:00", "01/02/2020 {}.000\t{}"), {}),
    "DOMINO in German": ("n.txt", domino(words=("Wach", "S1", "S2", "S4", "REM")), {}),
    "DOMINO, stages alone": ("n.txt", domino(row="{1}"), {}),
    "Luna, seconds": ("n.annot", luna("{0}\t.\t.\t{at}\t{to}\t.\n", WIDE), {}),
    "Luna, three columns": ("n.annot", luna("{0} {at} {to}\n"), {}),
    "Luna, four columns": ("n.annot", luna("SleepStage {0} {at} +30\n"), {}),
    "Luna, epochs": ("n.annot", luna("{0}\t.\te:{e}\t.\n"), {}),
    "Luna, epochs of 15 s": ("n.annot", luna("{0}\t.\te:{e}:30:30\te:{e}:30:30\n"), {}),
    "Luna, clock": ("n.annot", luna("{0}\t.\t.\t{clock}\t+30\t.\n", WIDE), {}),
    "Luna, elapsed": (
        "n.annot",
        luna("{0}\t0+00:00:{at}\t+30\n")
        .replace("00:00:90", "00:01:30")
        .replace("00:00:60", "00:01:00")
        .replace("00:00:120", "00:02:00")
        .replace("00:00:150", "00:02:30")
        .replace("00:00:180", "00:03:00")
        .replace("00:00:210", "00:03:30"),
        {},
    ),
    "Luna, until the next": ("n.annot", luna("{0}\t.\t{at}\t...\n") + "L\t.\t240\t...\n", {}),
    "Luna, by its columns": ("n.txt", luna("{0}\t.\t.\t{at}\t{to}\t.\n", WIDE), {}),
    "Luna's epochs": (
        "n.eannot",
        "\n".join(["?", "?", "W", "N1", "N2", "N3", "R", "R", "L", "?"]) + "\n",
        {"stages": {"L": "unscored"}},
    ),
    "Elan": (
        "n.hyp",
        "time_base 30.000000\nsampling_period 0.01\nepoch_nb 10\nepoch_list\n" + "\n".join(NUMBERS),
        {},
    ),
    "Elan, seconds": (
        "n.hyp",
        "time_base 1.000000\nsampling_period 0.01\nepoch_nb 300\nepoch_list\n"
        + "\n".join(x for x in NUMBERS for _ in range(30)),
        {},
    ),
    "visbrain": ("n.txt", VISBRAIN, {}),
    "MNE": ("n.txt", MNE.format(""), {}),
    "MNE, with a date": ("n.txt", MNE.format("# orig_time : 2020-02-01 23:58:00+00:00\n"), {}),
    "JSON": ("n.json", json.dumps([{-1: None}.get(c, c) for c in STAGES]), {"codes": "yasa"}),
    "JSON, named": (
        "n.json",
        json.dumps({"id": 3, "Hypnogram": [None if c < 0 else WORDS[c] for c in STAGES]}),
        {},
    ),
    "JSON of events": (
        "n.json",
        json.dumps(
            [
                {"onset": 60 + 30 * k, "duration": 30, "stage": WORDS[c]}
                for k, c in enumerate(SCORED)
            ]
        ),
        {},
    ),
    "one line": ("n.txt", ",".join(map(str, STAGES)) + ",\r\n", {"codes": "yasa"}),
    "one line of words": ("n.txt", "? ? W N1 N2 N3 R R ? ?", {}),
    "Philips": ("n.rml", rml(UserStaging=SCORED, MachineStaging=[0] * 6), {}),
    "Philips' machine": ("n.rml", rml(MachineStaging=SCORED), {}),
    "Philips' machine, asked for": (
        "n.rml",
        rml(UserStaging=[0] * 6, MachineStaging=SCORED),
        {"scorer": "MachineStaging"},
    ),
    "Profusion in a namespace": (
        "n.xml",
        '<a xmlns="http://x/y"><EpochLength>30</EpochLength><SleepStages>'
        + "".join(f"<SleepStage>{x if x[0] != '-' else 9}</SleepStage>" for x in NUMBERS)
        + "</SleepStages></a>",
        {},
    ),
}


def staged(path, **options):
    settings = HypnogramConfig(**options)
    hypnogram = read_hypnogram(path, settings)
    offset, _ = find_offset("n", hypnogram, START, 300.0, settings)
    return to_epochs("n", hypnogram, offset, 300.0)[0].tolist(), hypnogram


@pytest.mark.parametrize("case", FORMATS)
def test_formats_give_the_same_night(case, tmp_path):
    name, text, options = FORMATS[case]
    (tmp_path / name).write_bytes(text.encode())
    assert staged(tmp_path / name, **options)[0] == STAGES


def test_the_settings_name_every_format():
    key = next(k for s in describe(HypnogramConfig) for k in s.keys if k.key.endswith("format"))
    own = {"auto", "annotations", "table", "list"}
    assert set(key.choices) == own | set(TEXTS)


def test_what_mne_saves(tmp_path):
    """As text, CSV and FIF, with a date and without one, by MNE itself."""
    for date in (None, datetime.fromisoformat("2020-02-01T23:58:00+00:00")):
        told = mne.Annotations(
            [60 + 30 * k for k in range(6)], 30, [f"Sleep stage {WORDS[c]}" for c in SCORED], date
        )
        for name in ("n.txt", "n.csv", "n-annot.fif"):
            told.save(tmp_path / name, overwrite=True)
            stages, hypnogram = staged(tmp_path / name)
            assert stages == STAGES, (name, date)
            assert hypnogram.in_signal == (date is None)


def test_a_study_by_a_person_and_by_the_machine(tmp_path):
    (tmp_path / "n.rml").write_text(rml(UserStaging=SCORED, MachineStaging=[0] * 6))
    assert staged(tmp_path / "n.rml")[1].notes == (
        "the stages of UserStaging, and not of MachineStaging",
    )
    (tmp_path / "n.rml").write_text(rml(MachineStaging=SCORED))
    assert staged(tmp_path / "n.rml")[1].notes == ("by MachineStaging",)


def test_characters_that_are_a_stage_each(tmp_path):
    (tmp_path / "n.txt").write_text("WW112233445566R?" * 2)
    found = read_hypnogram(tmp_path / "n.txt", HypnogramConfig(codes="rk"))
    assert found.stages.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 4, 4, -1, -1, 4, -1] * 2


def test_events_that_follow_end_a_stage_of_luna_that_holds_until_the_next(tmp_path):
    text = "N2\t.\t0\t...\napnea\t.\t90\t100\nN3\t.\t120\t...\n"
    (tmp_path / "n.annot").write_text(text)
    found = read_hypnogram(tmp_path / "n.annot", HypnogramConfig())
    assert to_epochs("n", found, 0.0, 240.0)[0].tolist() == [2, 2, 2, -1, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("n.txt", REMLOGIC, r"no columns of REMlogic's"),
        (
            "n.txt",
            REMLOGIC + remlogic().replace("SLEEP", "SCHLAF"),
            r"no event is a stage; expected",
        ),
        ("n.txt", REMLOGIC + remlogic().replace("23:59:30", "23:59"), r"'23:59' is no time of day"),
        (
            "n.txt",
            REMLOGIC + remlogic().replace("SLEEP-S1\t30\tC4", "SLEEP-S1"),
            r"line \d+ has fewer columns",
        ),
        ("n.txt", domino().replace("Rate: 30 s", "Rate:"), r"no rate of epochs above the stages"),
        (
            "n.txt",
            domino().replace("SchlafProfil\\profil", "FlowD\\flow"),
            r"DOMINO's export of 'FlowD",
        ),
        (
            "n.txt",
            domino("01.02.2020 11:59:00"),
            r"the start time says 11:59:00, and the first row 23:59",
        ),
        ("n.txt", domino().replace("N1", "Banane", 2), r"'Banane' is no stage that is known"),
        ("n.txt", domino().replace("; Wake", ""), r"a time; a stage, and some are not"),
        ("n.annot", "N1 0 30\nN2 00:00:30 60\n", r"some starts are seconds, some times of day"),
        ("n.annot", "N1 30 0\n", r"an interval from 30 s ends before it begins"),
        ("n.annot", "N1 30\n", r"line 1 has 2 columns; expected class, start and stop"),
        ("n.annot", "apnea 0 30\n", r"no class is a stage"),
        ("n.annot", "N1\t31/12/99 23:59:59\t+30\n", r"is no number of seconds"),
        ("n.annot", "N1\te:0\t.\n", r"'e:0' is no epoch; the first is e:1"),
        (
            "n.hyp",
            "time_base 30\nsampling_period 1\nepoch_nb 9\nepoch_list\n1\n",
            r"1 epochs, where the header has 9",
        ),
        ("n.hyp", "time_base 30\n1\n", r"where a line sampling_period was expected"),
        ("n.txt", VISBRAIN.replace("90", "40"), r"seconds that do not grow"),
        ("n.txt", VISBRAIN.replace("300.0", "200"), r"the last stage ends at 300 s, of 200 s"),
        ("n.json", '{"a": 1}', r"JSON of 1 entries, none of them stages"),
        ("n.json", "[" * 10_000, r"is no readable JSON"),
        ("n.json", '[true, "W"]', r"true where a stage"),
        ("n.json", "[]", r"JSON that holds no stages"),
        ("n.json", '["W", "banana"]', r"'banana' is no stage that is known"),
        ("n.rml", rml(), r"no sleep stages are in this study"),
        ("n.rml", rml(UserStaging=[0, 0]).replace('"90"', '"60"'), r"starts go back"),
        (
            "n.rml",
            rml(UserStaging=[0]).replace(
                "<PatientStudy", '<!DOCTYPE a [<!ENTITY b "c">]><PatientStudy'
            ),
            r"definitions of its own",
        ),
        ("n.txt", "# MNE-Annotations\n0,30\n", r"line 2 is no onset, duration, description"),
        ("n.txt", "# MNE-Annotations\n0,30,hello\n", r"no annotation is a sleep stage"),
        ("n-annot.fif", "no FIF", r"cannot be read by MNE"),
    ],
)
def test_what_is_damaged_is_refused_in_a_sentence(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as told:
        read_hypnogram(tmp_path / name, HypnogramConfig())
    assert len(str(told.value)) < 600
