//! Words and signs of a line.

use anyhow::{Context, Result, ensure};

use super::number;

/// The words and signs of a line.
pub(super) struct Tokens {
    tokens: Vec<String>,
    at: usize,
}

impl Tokens {
    pub(super) fn new(text: &str) -> Result<Self> {
        const SIGNS: [&str; 13] = ["&&&", "==", "!=", "<=", ">=", "(", ")", ",", ":", "/", "=", "<", ">"];
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let length = if let Some(quoted) = rest.strip_prefix('"') {
                let end = quoted.find('"').context("a quoted name does not end")?;
                tokens.push(quoted[..end].to_owned());
                end + 2
            } else if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
                tokens.push((*sign).to_owned());
                sign.len()
            } else {
                let word = |c: char| c.is_ascii_alphanumeric() || "_$.[]*-".contains(c);
                let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
                ensure!(end > 0, "{:?} means nothing here", rest.chars().next().unwrap_or_default());
                tokens.push(rest[..end].to_owned());
                end
            };
            rest = rest[length..].trim_start();
        }
        Ok(Self { tokens, at: 0 })
    }

    pub(super) fn peek(&self, ahead: usize) -> Option<&str> {
        self.tokens.get(self.at + ahead).map(String::as_str)
    }

    pub(super) fn done(&self) -> bool {
        self.at == self.tokens.len()
    }

    pub(super) fn left(&self) -> &[String] {
        &self.tokens[self.at..]
    }

    pub(super) fn next(&mut self) -> Result<String> {
        let token = self.tokens.get(self.at).cloned().context("the line ends too early")?;
        self.at += 1;
        Ok(token)
    }

    pub(super) fn word(&mut self) -> Result<String> {
        let token = self.next()?;
        let first = token.chars().next().unwrap_or_default();
        ensure!(!"(),:/=<>!&".contains(first), "{token:?} where a name or number should be");
        Ok(token)
    }

    pub(super) fn punctuation(&mut self, sign: &str) -> Result<()> {
        let token = self.next()?;
        ensure!(token == sign, "{token:?} where {sign:?} should be");
        Ok(())
    }

    pub(super) fn int<T: TryFrom<u64>>(&mut self) -> Result<T> {
        let word = self.word()?;
        T::try_from(number::small(&word)?).ok().with_context(|| format!("{word} is too large"))
    }

    pub(super) fn ints<T: TryFrom<u64>>(&mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while !self.done() {
            all.push(self.int()?);
        }
        Ok(all)
    }
}
