//! The figure: rates by time, as numbers and drawn.

use std::fmt::Write;
use std::time::Duration;

use serde::Serialize;

use super::flows::{BIN, Flow};

/// Of each interval, so much at its start is the transition and counts for nobody.
const TRANSITION: f64 = 0.2;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const MARGIN: f64 = 48.0;
/// The top of the scale, Mb/s.
const TOP: f64 = 110.0;
const COLOURS: [&str; 4] = ["#1b6ca8", "#c0392b", "#7f8c8d", "#2e8b57"];

/// Mean rates of the flows in one interval.
#[derive(Debug, Clone, Serialize)]
pub struct Window {
    /// Its start, s.
    pub from_s: f64,
    /// Mb/s by flow; `None` for a flow that does not send in it.
    pub mbps: Vec<Option<f64>>,
}

/// What was measured.
pub struct Figure {
    names: Vec<&'static str>,
    /// Mb/s by flow and [`BIN`].
    series: Vec<Vec<f64>>,
    /// By interval.
    pub windows: Vec<Window>,
    seconds: f64,
}

impl Figure {
    /// From bits by flow and [`BIN`].
    pub fn new(flows: &[Flow], counts: &[Vec<u64>], interval: Duration) -> Self {
        let bin = BIN.as_secs_f64();
        let series: Vec<Vec<f64>> =
            counts.iter().map(|c| c.iter().map(|bits| *bits as f64 / bin / 1e6).collect()).collect();
        let windows = (0..super::WINDOWS)
            .map(|n| {
                let (from, to) = (interval * n, interval * (n + 1));
                let first = ((from.as_secs_f64() + interval.as_secs_f64() * TRANSITION) / bin).ceil() as usize;
                let last = (to.as_secs_f64() / bin) as usize;
                let mean = |s: &[f64]| s[first..last].iter().sum::<f64>() / (last - first) as f64;
                let mbps = flows.iter().zip(&series).map(|(f, s)| f.runs(from, to).then(|| mean(s))).collect();
                Window { from_s: from.as_secs_f64(), mbps }
            })
            .collect();
        let seconds = (interval * super::WINDOWS).as_secs_f64();
        Self { names: flows.iter().map(|f| f.name).collect(), series, windows, seconds }
    }

    fn of(&self, name: &str) -> impl Iterator<Item = f64> {
        let at = self.names.iter().position(|n| *n == name);
        self.windows.iter().filter_map(move |w| at.and_then(|at| w.mbps.get(at).copied().flatten()))
    }

    /// Lowest and highest mean of an interval, Mb/s.
    pub fn extremes(&self, name: &str) -> (f64, f64) {
        self.of(name).fold((f64::INFINITY, 0.0), |(low, high), rate| (low.min(rate), high.max(rate)))
    }

    /// How far the mean of an interval is off `provisioned` at most, as a part of it.
    pub fn deviation(&self, name: &str, provisioned: f64) -> f64 {
        self.of(name).map(|rate| (rate / provisioned - 1.0).abs()).fold(0.0, f64::max)
    }

    /// The lowest sum of all flows in an interval, Mb/s.
    pub fn filled(&self) -> f64 {
        self.windows.iter().map(|w| w.mbps.iter().flatten().sum()).fold(f64::INFINITY, f64::min)
    }

    /// Lines of a table, the first a heading.
    pub fn table(&self) -> Vec<String> {
        let mut lines = vec![format!("Mb/s by interval: {}, sum", self.names.join(", "))];
        for window in &self.windows {
            let mut line = format!("from {:>2.0} s:", window.from_s);
            for rate in &window.mbps {
                let _ = match rate {
                    Some(rate) => write!(line, " {rate:>7.2}"),
                    None => write!(line, "       -"),
                };
            }
            let _ = write!(line, " {:>7.2}", window.mbps.iter().flatten().sum::<f64>());
            lines.push(line);
        }
        lines
    }

    /// The drawing.
    pub fn svg(&self) -> String {
        let x = |s: f64| MARGIN + s / self.seconds * (WIDTH - 2.0 * MARGIN);
        let y = |mbps: f64| HEIGHT - MARGIN - mbps / TOP * (HEIGHT - 2.0 * MARGIN);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
        };
        for mbps in [0.0, 15.0, 30.0, 50.0, 100.0] {
            text(MARGIN - 6.0, y(mbps) + 4.0, "end", &format!("{mbps:.0}"));
        }
        for n in 0..=super::WINDOWS {
            let s = self.seconds * f64::from(n) / f64::from(super::WINDOWS);
            text(x(s), HEIGHT - MARGIN + 18.0, "middle", &format!("{s:.0}"));
        }
        text(WIDTH / 2.0, HEIGHT - 10.0, "middle", "seconds");
        text(MARGIN - 30.0, MARGIN - 24.0, "start", "Mb/s at the endpoint");
        for mbps in [0.0, 15.0, 30.0, 50.0, 100.0] {
            let (left, right, y) = (x(0.0), x(self.seconds), y(mbps));
            let _ = writeln!(out, "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>");
        }
        for (n, (name, series)) in self.names.iter().zip(&self.series).enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let bin = BIN.as_secs_f64();
            let points: Vec<String> = (0..)
                .zip(series)
                .map(|(i, rate)| format!("{:.1},{:.1}", x((f64::from(i) + 0.5) * bin), y(rate.min(TOP))))
                .collect();
            let points = points.join(" ");
            let _ =
                writeln!(out, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>");
            let at = MARGIN + 150.0 * n as f64;
            let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", MARGIN - 8.0);
        }
        out + "</svg>\n"
    }
}
