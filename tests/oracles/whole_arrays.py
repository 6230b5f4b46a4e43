"""What partsig did before recordings were read in blocks: everything on whole arrays in memory.

The steps are those of commit e5e8458; of the filter, what does not touch the samples' storage (the
plan and the transform back) is partsig's own. Blocks must give the same numbers to the last bit.
"""

import math

import numpy as np
import scipy.fft

from partsig.data.signals import filters, kernels
from partsig.sleep.clipping import RUN, RUNS


def bandpass_resample(signal, sfreq, target, *, picks, scale, offset, l_freq, h_freq, reflect):
    """Return (C, T') float32 of a whole array (rows, T)."""
    plan = kernels.plan_blocks(float(sfreq), float(target), l_freq, h_freq)
    rows = [signal[pick] for pick in picks]
    given = (rows, np.array(scale)[:, None], np.array(offset)[:, None], reflect == "even")
    n_times = kernels.resampled_length(signal.shape[1], sfreq, target)
    result = np.empty((len(rows), n_times), np.float32)
    firsts = range(0, n_times, plan.hop_out)
    if plan.zoom is not None:
        run(plan, *given, firsts, np.float64, result)
        return result
    before, after = run(plan, *given, firsts, np.float32, result)
    n_useful = np.minimum(plan.hop_out, n_times - np.array(firsts))
    sd = np.sqrt(np.average(after**2, axis=0, weights=n_useful))
    rough = before > filters.ROUGH * sd
    for c in range(len(rows)):
        again = [firsts[i] for i in np.flatnonzero(rough[:, c])]
        one = (rows[c : c + 1], given[1][c : c + 1], given[2][c : c + 1], given[3])
        run(plan, *one, again, np.float64, result[c : c + 1])
    return result


def run(plan, samples, scale, offset, even, firsts, precision, result):
    n_blocks = filters.LANES // math.gcd(len(samples), filters.LANES)
    kernel = plan.kernel.astype(precision)
    before, after = np.zeros((2, len(firsts), len(samples)))
    for i in range(0, len(firsts), n_blocks):
        group = firsts[i : i + n_blocks]
        rows = np.empty((len(group), len(samples), plan.n_in), precision)
        level = np.empty((len(group), len(samples), 1))
        starts = [math.floor(first * plan.step) for first in group]
        for b, start in enumerate(starts):
            for c, row in enumerate(samples):
                level[b, c] = fill(rows[b, c], row, start - plan.lead, offset[c, 0], even)
        spectrum = scipy.fft.rfft(rows)[..., : len(kernel)]
        spectrum *= kernel
        delays = [float(first * plan.step - at) for first, at in zip(group, starts, strict=True)]
        out = filters._inverse(plan, spectrum, delays)
        before[i : i + n_blocks] = filters._rms(rows[..., :: filters.COARSE])
        for b, first in enumerate(group):
            useful = out[b, :, : result.shape[1] - first]
            after[i + b] = filters._rms(useful)
            useful *= scale.astype(precision)
            useful += ((level[b] - offset) * scale * plan.gain).astype(precision)
            result[:, first : first + plan.hop_out] = useful
    return before, after


def fill(row, samples, start, offset, even):
    n_times, stop = len(samples), start + len(row)
    low, high = max(start, 0), min(stop, n_times)
    level = np.float32(samples[low : high : filters.COARSE].mean(dtype=np.float64))
    inner = row[low - start : high - start]
    if np.can_cast(samples.dtype, row.dtype):
        inner[:] = samples[low:high]
        inner -= level
    else:
        np.subtract(samples[low:high], level, out=inner, casting="same_kind")
    if start < 0:
        extend(row[:-start][::-1], samples, offset, even, float(level))
    if stop > n_times:
        extend(row[n_times - start :], samples[::-1], offset, even, float(level))
    return float(level)


def extend(beyond, samples, offset, even, level):
    n_mirror = min(len(beyond), len(samples) - 1)
    edge, mirror = float(samples[0]), samples[1 : n_mirror + 1].astype(np.float64)
    beyond[:n_mirror] = (mirror if even else 2 * edge - mirror) - level
    beyond[n_mirror:] = (edge if even else offset) - level


def filtered(recording, settings):
    """Return the channels (C, T) of a recording whose parts are whole arrays."""
    rows = [
        bandpass_resample(
            np.asarray(part.signal),
            part.sfreq,
            settings.sfreq,
            l_freq=settings.l_freq,
            h_freq=settings.h_freq,
            picks=part.picks,
            scale=part.scale,
            offset=part.offset,
            reflect="even" if recording.excerpt else "odd",
        )
        for part in recording.parts
    ]
    shortest = min(part.shape[1] for part in rows)
    signal = rows[0] if len(rows) == 1 else np.concatenate([part[:, :shortest] for part in rows])
    if recording.mix is not None:
        signal = recording.mix.astype(signal.dtype) @ signal
    start = round(recording.start_s * settings.sfreq)
    stop = None if recording.stop_s is None else round(recording.stop_s * settings.sfreq)
    return signal[:, start:stop]


def bridged(samples, per_record, record_s, onsets):
    """Return samples (T,) at their times, straight lines over what is missing."""
    sfreq = per_record / record_s
    at = np.round(np.asarray(onsets) * sfreq).astype(np.int64)
    result = np.zeros(int(at[-1]) + per_record, samples.dtype)
    records = samples.reshape(-1, per_record)
    for k, (first, record) in enumerate(zip(at, records, strict=True)):
        result[first : first + per_record] = record
        end = int(at[k - 1]) + per_record if k else int(first)
        if first > end:
            result[end:first] = np.linspace(records[k - 1, -1], record[0], first - end + 2)[1:-1]
    return result


def find_clipped(signal, limits):
    """Return (T,) bool: samples at the limits, or in runs at the signal's own extremes."""
    found = np.zeros(len(signal), bool)
    if not len(signal):
        return found
    if limits is not None:
        found |= (signal <= limits[0]) | (signal >= limits[1])
    least, most = np.fmin.reduce(signal), np.fmax.reduce(signal)
    for extreme in (least, most) if least < most else ():
        at = np.flatnonzero(signal == extreme)
        runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
        runs = [run for run in runs if len(run) >= RUN]
        if len(runs) >= RUNS:
            found[np.concatenate(runs)] = True
    return found


def read_channel(recording, c, limits):
    """Return channel c (T,) in µV, where it is clipped (T,), and Hz; ``limits(part, row)``: µV."""
    places = [(part, r) for part in recording.parts for r in range(len(part.picks))]
    weights = {c: 1.0}
    if recording.mix is not None:
        weights = {r: float(w) for r, w in enumerate(recording.mix[c]) if w} or {0: 0.0}
    sfreq = max(places[r][0].sfreq for r in weights)
    total, marks = None, None
    for r, weight in weights.items():
        part, row = places[r]
        samples = np.asarray(np.asarray(part.signal)[part.picks[row]], np.float32)
        signal = (samples - np.float32(part.offset[row])) * np.float32(part.scale[row])
        clipped = find_clipped(signal, limits(part, row))
        if part.sfreq != sfreq:
            at = np.arange(int(len(signal) / part.sfreq * sfreq)) * (part.sfreq / sfreq)
            signal = np.interp(at, np.arange(len(signal)), signal).astype(np.float32)
            clipped = clipped[np.minimum(at.round().astype(int), len(clipped) - 1)]
        if weight != 1:
            signal *= np.float32(weight)
            clipped &= weight != 0
        if total is None:
            total, marks = signal, clipped
        else:
            n = min(len(total), len(signal))
            total, marks = total[:n], marks[:n] | clipped[:n]
            total += signal[:n]
    start = round(recording.start_s * sfreq)
    stop = None if recording.stop_s is None else round(recording.stop_s * sfreq)
    return total[start:stop], marks[start:stop], sfreq


def in_gaps(onsets, gaps, epoch_s):
    """Return which epochs (E,) touch one of the gaps, epoch by epoch and gap by gap."""
    return [any(a < onset + epoch_s and onset < b for a, b in gaps) for onset in onsets]
