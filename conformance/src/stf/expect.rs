//! What a test expects at its ports, and whether that is what came (p4c's rule: port by port, in order, the right number).

use std::collections::BTreeMap;
use std::fmt::Write;

/// A frame as a test writes it: hexadecimal digits, `*` for one that may be anything, `$` at the end for "and no more".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Takes the digits as they stand in the file, blanks and all.
    pub fn new(text: &str) -> Self {
        Self(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()).collect())
    }

    /// Why `frame` is not what was expected. A frame may be longer than the pattern unless that ends in `$`.
    pub fn mismatch(&self, frame: &[u8]) -> Option<String> {
        let (pattern, exact) = self.0.strip_suffix('$').map_or((self.0.as_str(), false), |p| (p, true));
        let got = hex(frame);
        if got.len() < pattern.len() || (exact && got.len() > pattern.len()) {
            return Some(format!("expected {pattern}, got {got}: another length"));
        }
        let at = pattern.chars().zip(got.chars()).position(|(want, got)| want != '*' && want != got)?;
        Some(format!("expected {pattern}, got {got}: digit {at} differs"))
    }
}

/// What is expected so far.
#[derive(Debug, Default)]
pub struct Expectations {
    /// `None`: a frame, whatever is in it.
    ports: BTreeMap<u16, Vec<Option<Pattern>>>,
}

impl Expectations {
    /// Expects one more frame at a port.
    pub fn add(&mut self, port: u16, pattern: Option<Pattern>) {
        self.ports.entry(port).or_default().push(pattern);
    }

    /// Frames expected so far.
    pub fn count(&self) -> usize {
        self.ports.values().map(Vec::len).sum()
    }

    /// Compares with what came at the ports that the test names.
    pub fn judge(&self, named: &[u16], came: &[(u16, Vec<u8>)]) -> Vec<String> {
        let mut wrong = Vec::new();
        for port in named {
            let got: Vec<&Vec<u8>> = came.iter().filter(|(at, _)| at == port).map(|(_, frame)| frame).collect();
            let want = self.ports.get(port).map_or(&[][..], Vec::as_slice);
            if want.len() != got.len() {
                let frames: Vec<String> = got.iter().map(|f| hex(f)).collect();
                wrong.push(format!(
                    "port {port}: {} frames expected, {} came: {}",
                    want.len(),
                    got.len(),
                    frames.join(" ")
                ));
            }
            for (n, (want, got)) in want.iter().zip(got).enumerate() {
                if let Some(why) = want.as_ref().and_then(|w| w.mismatch(got)) {
                    wrong.push(format!("port {port}, frame {n}: {why}"));
                }
            }
        }
        wrong
    }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_beginning_unless_it_ends_in_a_dollar() {
        let open = Pattern::new("AB *0 ");
        assert_eq!(open.mismatch(&[0xab, 0x10]), None);
        assert_eq!(open.mismatch(&[0xab, 0x10, 0xff]), None);
        assert!(open.mismatch(&[0xab]).is_some());
        assert!(open.mismatch(&[0xab, 0x11]).is_some());
        let exact = Pattern::new("ab$");
        assert_eq!(exact.mismatch(&[0xab]), None);
        assert!(exact.mismatch(&[0xab, 0]).is_some());
    }

    #[test]
    fn frames_are_judged_port_by_port_in_order_and_by_number() {
        let mut expected = Expectations::default();
        expected.add(1, Some(Pattern::new("01")));
        expected.add(1, None);
        expected.add(2, Some(Pattern::new("02$")));
        let came = |frames: &[(u16, u8)]| frames.iter().map(|(p, b)| (*p, vec![*b])).collect::<Vec<_>>();
        assert_eq!(expected.judge(&[1, 2], &came(&[(2, 2), (1, 1), (1, 9)])), [""; 0]);
        // A port that the test does not name is nobody's business.
        assert_eq!(expected.judge(&[1, 2], &came(&[(1, 1), (1, 9), (2, 2), (3, 3)])), [""; 0]);
        assert_eq!(expected.judge(&[1, 2], &came(&[(1, 9), (1, 1), (2, 2)])).len(), 1);
        assert_eq!(expected.judge(&[1, 2], &came(&[(1, 1), (2, 2)])).len(), 1);
        assert_eq!(expected.judge(&[1, 2, 3], &came(&[(1, 1), (1, 9), (2, 2), (3, 3)])).len(), 1);
        assert_eq!(expected.count(), 3);
    }
}
