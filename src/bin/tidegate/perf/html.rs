//! The report of a run as one HTML page that needs nothing else: no script, no font, no network.

use std::fmt::Write;

use super::numbers::SECOND;
use super::plot::{Plot, Scale, short};
use super::report::{PERCENTILES, Run, milliseconds};

/// Bars of the distribution in each decade of latency.
const BARS_PER_DECADE: i32 = 8;
/// The least latency that the plots tell from 0, in milliseconds.
const LATENCY_MIN: f64 = 0.001;

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #ffffff; --card: #f6f7f9; --ink: #16202c;
  --soft: #5b6875; --grid: #dfe4ea; --a: #1f6fc4; --b: #c65a11; --c: #8a4fbf; }
@media (prefers-color-scheme: dark) { :root { --ground: #12171d; --card: #1b222a; --ink: #e6ebf0;
  --soft: #9aa7b4; --grid: #323c47; --a: #5aa7f2; --b: #f0965a; --c: #c094ec; } }
body { background: var(--ground); color: var(--ink); max-width: 820px; margin: 0 auto;
  padding: 24px 16px 48px; font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 32px 0 4px; }
p { margin: 0 0 8px; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0; }
.tile { background: var(--card); border-radius: 8px; padding: 10px 14px; }
.tile b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 13px; }
svg { width: 100%; height: auto; display: block; }
.grid { stroke: var(--grid); } .axis { stroke: var(--soft); }
.tick { fill: var(--soft); font-size: 12px; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.line.a { stroke: var(--a); } .line.b { stroke: var(--b); }
.line.c { stroke: var(--c); stroke-dasharray: 4 3; stroke-width: 1.3; }
.area { opacity: .18; } .area.a { fill: var(--a); } .bar.a { fill: var(--a); }
.hint { fill: transparent; } .hint:hover { fill: var(--soft); fill-opacity: .15; }
.legend { display: flex; gap: 18px; font-size: 13px; color: var(--soft); margin: 4px 0; }
.legend i { display: inline-block; width: 16px; height: 3px; vertical-align: middle;
  margin-right: 6px; border-radius: 2px; }
.legend .a { background: var(--a); } .legend .b { background: var(--b); }
.legend .c { background: var(--c); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--grid);
  font-weight: normal; overflow-wrap: anywhere; } th { color: var(--soft); width: 14em; }
.failed { color: var(--b); }
";

/// The page.
pub(super) fn page(run: &Run<'_>) -> String {
    let numbers = run.numbers;
    let topic = run.settings.iter().find(|(name, _)| *name == "topic");
    let topic = escape(topic.map_or("", |(_, topic)| topic));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>tidegate \
         perf: {topic}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>Producer performance: \
         {topic}</h1>\n<p>tidegate {}, {}</p>\n",
        env!("CARGO_PKG_VERSION"),
        date(run.ended_at),
    );
    page += &tiles(run);
    if numbers.failed > 0 {
        let failed = numbers.failed;
        let _ =
            writeln!(page, "<p class=\"failed\">{failed} records failed; none counts here.</p>");
    }
    if numbers.total.records > 0 {
        page += &rate(run);
        page += &latency(run);
        page += &distribution(run);
        page += &percentiles(run);
        page += &batches(run);
    }
    page += "<h2>Settings</h2>\n<table>\n";
    for (name, value) in &run.settings {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(value));
    }
    page + "</table>\n</body>\n</html>\n"
}

fn tiles(run: &Run<'_>) -> String {
    let total = &run.numbers.total;
    let (records, megabytes) = total.rates(run.numbers.ended);
    let seconds = run.numbers.ended as f64 / SECOND as f64;
    let tiles = [
        (short(records), "acknowledged records/s"),
        (format!("{megabytes:.1} MB/s"), "of values (1 MB = 1,048,576 bytes)"),
        (milliseconds(total.percentile_ms(50.0)), "latency, median"),
        (milliseconds(total.percentile_ms(99.0)), "latency, 99 of 100 below"),
        (milliseconds(total.max_ms()), "latency, highest"),
        (format!("{} in {seconds:.1} s", short(total.records as f64)), "records acknowledged"),
    ];
    let mut html = "<div class=\"tiles\">\n".to_owned();
    for (value, name) in tiles {
        let _ = writeln!(html, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
    }
    html + "</div>\n"
}

/// Seconds of the middle, the begin and the end of a point.
fn times(run: &Run<'_>, index: usize) -> (f64, f64, f64) {
    let each = run.numbers.points.each as f64 / SECOND as f64;
    let ended = run.numbers.ended as f64 / SECOND as f64;
    let begin = index as f64 * each;
    let end = (begin + each).min(ended).max(begin);
    (f64::midpoint(begin, end), begin, end)
}

fn time_scale(run: &Run<'_>) -> Scale {
    Scale::exactly(run.numbers.ended as f64 / SECOND as f64)
}

fn seconds(value: f64) -> String {
    format!("{} s", short(value))
}

fn rate(run: &Run<'_>) -> String {
    let each = run.numbers.points.each as f64 / SECOND as f64;
    let mut rates = Vec::new();
    for (index, point) in run.numbers.points.points.iter().enumerate() {
        let (middle, begin, end) = times(run, index);
        // What is left of an interval at the end says little where it is short.
        if end - begin >= each / 5.0 || index == 0 {
            let rate = point.records as f64 / (end - begin).max(1e-9);
            rates.push((middle, begin, end, rate));
        }
    }
    let highest = rates.iter().map(|(.., rate)| *rate).fold(0.0, f64::max);
    let line: Vec<(f64, f64)> = rates.iter().map(|(middle, .., rate)| (*middle, *rate)).collect();
    let some: Vec<Option<(f64, f64)>> = line.iter().copied().map(Some).collect();
    let x = (time_scale(run), &seconds as &dyn Fn(f64) -> String);
    let mut plot = Plot::new("Acknowledged records a second", x, (Scale::linear(highest), &short))
        .area("a", &line)
        .line("a", &some);
    for (_, begin, end, rate) in rates {
        let words = format!("{begin:.1} s to {end:.1} s: {} records/s", short(rate));
        plot = plot.hint(begin, end, &words);
    }
    format!(
        "<h2>Acknowledged records per second</h2>\n<p>In intervals of {}.</p>\n{}",
        milliseconds(each * 1_000.0),
        plot.svg()
    )
}

fn latency(run: &Run<'_>) -> String {
    let mut lines = [Vec::new(), Vec::new(), Vec::new()];
    let mut hints = Vec::new();
    let (mut lowest, mut highest) = (f64::MAX, LATENCY_MIN);
    for (index, point) in run.numbers.points.points.iter().enumerate() {
        let (middle, begin, end) = times(run, index);
        if point.records == 0 {
            lines.iter_mut().for_each(|line| line.push(None));
            continue;
        }
        let values = [point.percentile_ms(50.0), point.percentile_ms(99.0), point.max_ms()];
        let values = values.map(|value| value.max(LATENCY_MIN));
        for (line, value) in lines.iter_mut().zip(values) {
            line.push(Some((middle, value)));
        }
        (lowest, highest) = (lowest.min(values[0]), highest.max(values[2]));
        let [p50, p99, max] = values.map(milliseconds);
        let words =
            format!("{begin:.1} s to {end:.1} s: median {p50}, 99 of 100 below {p99}, max {max}");
        hints.push((begin, end, words));
    }
    let scale = Scale::logarithmic(lowest.min(highest), highest);
    let x = (time_scale(run), &seconds as &dyn Fn(f64) -> String);
    let mut plot = Plot::new("Latency over time", x, (scale, &tick))
        .line("c", &lines[2])
        .line("b", &lines[1])
        .line("a", &lines[0]);
    for (begin, end, words) in hints {
        plot = plot.hint(begin, end, &words);
    }
    format!(
        "<h2>Latency over time</h2>\n<div class=\"legend\"><span><i class=\"a\"></i>median</span>\
         <span><i class=\"b\"></i>99 of 100 below</span><span><i \
         class=\"c\"></i>highest</span></div>\n{}<p>By when records were acknowledged. The scale \
         is logarithmic.</p>\n",
        plot.svg()
    )
}

/// A latency at an axis.
fn tick(ms: f64) -> String {
    match ms {
        ..0.999 => format!("{} µs", short((ms * 1_000.0).round())),
        ..999.9 => format!("{} ms", short(ms)),
        _ => format!("{} s", short(ms / 1_000.0)),
    }
}

fn distribution(run: &Run<'_>) -> String {
    let total = &run.numbers.total;
    let bar_of = |ms: f64| (ms.max(LATENCY_MIN).log10() * f64::from(BARS_PER_DECADE)).floor();
    let mut bars: Vec<(i32, u64)> = Vec::new();
    for value in total.latencies.iter_recorded() {
        let bar = bar_of(value.value_iterated_to() as f64 / 1_000.0) as i32;
        match bars.last_mut() {
            Some((last, count)) if *last == bar => *count += value.count_at_value(),
            _ => bars.push((bar, value.count_at_value())),
        }
    }
    let edge = |bar: i32| 10_f64.powf(f64::from(bar) / f64::from(BARS_PER_DECADE));
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return String::new() };
    let x = Scale::logarithmic(edge(first.0), edge(last.0 + 1));
    let share = |count: u64| count as f64 * 100.0 / total.records as f64;
    let highest = bars.iter().map(|(_, count)| share(*count)).fold(0.0, f64::max);
    let percent = |value: f64| format!("{} %", short(value));
    let mut plot =
        Plot::new("How latencies are spread", (x, &tick), (Scale::linear(highest), &percent));
    for (bar, count) in &bars {
        let (from, to) = (edge(*bar), edge(bar + 1));
        let words = format!(
            "{} to {}: {count} records, {:.3} %",
            milliseconds(from),
            milliseconds(to),
            share(*count)
        );
        plot = plot.bar("a", from, to, share(*count), &words);
    }
    format!(
        "<h2>How latencies are spread</h2>\n<p>How many of a hundred records had a latency of so \
         much. The scale of latencies is logarithmic.</p>\n{}",
        plot.svg()
    )
}

/// The bars are the client's own buckets, each an eighth of a power of two wide.
fn batches(run: &Run<'_>) -> String {
    let (bytes, records) = (&run.batches.bytes, &run.batches.records);
    let count = bytes.count();
    let from = |upper: u64| (upper - (1 << upper.ilog2().saturating_sub(3)) + 1) as f64;
    let buckets: Vec<_> = bytes.buckets().filter(|(upper, _)| *upper > 0).collect();
    let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
        return String::new();
    };
    let x = Scale::logarithmic(from(first.0), last.0 as f64 + 1.0);
    let share = |of: u64| of as f64 * 100.0 / count as f64;
    let highest = buckets.iter().map(|(_, of)| share(*of)).fold(0.0, f64::max);
    let percent = |value: f64| format!("{} %", short(value));
    let size = |value: f64| format!("{} B", short(value));
    let mut plot = Plot::new("Sizes of batches", (x, &size), (Scale::linear(highest), &percent));
    for (upper, of) in &buckets {
        let words = format!("up to {upper} bytes: {of} batches, {:.3} %", share(*of));
        plot = plot.bar("a", from(*upper), *upper as f64 + 1.0, share(*of), &words);
    }
    format!(
        "<h2>Sizes of batches</h2>\n<p>How many of a hundred batches had so many bytes as they \
         were sent. {count} batches of {} bytes and {} records on average. The scale is \
         logarithmic.</p>\n{}",
        bytes.mean(),
        records.mean(),
        plot.svg()
    )
}

fn percentiles(run: &Run<'_>) -> String {
    let total = &run.numbers.total;
    let mut html = "<h2>Percentiles</h2>\n<table>\n".to_owned();
    for percent in PERCENTILES {
        let latency = milliseconds(total.percentile_ms(percent));
        let _ = writeln!(html, "<tr><th>{percent} % of records within</th><td>{latency}</td></tr>");
    }
    let (average, max) = (milliseconds(total.average_ms()), milliseconds(total.max_ms()));
    let _ = writeln!(html, "<tr><th>average</th><td>{average}</td></tr>");
    let _ = writeln!(html, "<tr><th>highest</th><td>{max}</td></tr>");
    html + "</table>\n"
}

/// Text for HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A time of so many seconds since the Unix epoch, in UTC: by Howard Hinnant's algorithm for the
/// Gregorian calendar.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600, rest / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_767_225_599, "2025-12-31 23:59 UTC"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
