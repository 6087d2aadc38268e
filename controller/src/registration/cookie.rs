//! Stateless cookies: a proof that a source address is real, for the price of one HMAC (RFC 6013's idea).

use std::time::Duration;

use ring::hmac;

/// A cookie is accepted in the window in which it was made and in the next.
pub(crate) const COOKIE_WINDOW: Duration = Duration::from_secs(30);
/// Bytes of a cookie: guessing one takes 2¹²⁷ tries on average.
pub(crate) const COOKIE_LEN: usize = 16;

/// Makes and checks cookies. Each window has its own key, derived from the secret.
#[derive(Debug)]
pub(crate) struct Cookies {
    master: hmac::Key,
}

impl Cookies {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        Self { master: hmac::Key::new(hmac::HMAC_SHA256, secret) }
    }

    /// The cookie for a source, which is told by some bytes. Kinds of sources differ in how many.
    pub(crate) fn make(&self, now: Duration, source: &[u8]) -> [u8; COOKIE_LEN] {
        self.in_window(window(now), source)
    }

    /// Whether the cookie was made here for this source, lately.
    pub(crate) fn check(&self, now: Duration, source: &[u8], cookie: &[u8]) -> bool {
        let current = window(now);
        let previous = current.checked_sub(1);
        // Not short-circuited: which window it was is nobody's business.
        let this = same(&self.in_window(current, source), cookie);
        let last = previous.is_some_and(|w| same(&self.in_window(w, source), cookie));
        this | last
    }

    fn in_window(&self, window: u64, source: &[u8]) -> [u8; COOKIE_LEN] {
        let key = hmac::sign(&self.master, &window.to_be_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        let tag = hmac::sign(&key, source);
        let mut cookie = [0; COOKIE_LEN];
        cookie.copy_from_slice(&tag.as_ref()[..COOKIE_LEN]);
        cookie
    }
}

fn window(now: Duration) -> u64 {
    now.as_secs() / COOKIE_WINDOW.as_secs()
}

/// Compares in a time that depends on the length only.
fn same(ours: &[u8; COOKIE_LEN], theirs: &[u8]) -> bool {
    theirs.len() == COOKIE_LEN
        && std::hint::black_box(ours.iter().zip(theirs).fold(0, |acc, (a, b)| acc | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &[u8] = &[203, 0, 113, 100, 15, 160];

    #[test]
    fn a_cookie_holds_for_its_window_and_the_next() {
        let cookies = Cookies::new(&[1; 32]);
        let at = Duration::from_secs(59);
        let cookie = cookies.make(at, SOURCE);
        assert!(cookies.check(at, SOURCE, &cookie));
        assert!(cookies.check(Duration::from_secs(89), SOURCE, &cookie));
        assert!(!cookies.check(Duration::from_secs(90), SOURCE, &cookie));
        assert!(!cookies.check(Duration::from_secs(29), SOURCE, &cookie), "not made yet");
    }

    #[test]
    fn a_cookie_is_bound_to_source_and_secret() {
        let cookies = Cookies::new(&[1; 32]);
        let now = Duration::from_secs(5);
        let cookie = cookies.make(now, SOURCE);
        assert!(!cookies.check(now, &[203, 0, 113, 100, 15, 161], &cookie));
        assert!(!cookies.check(now, &[203, 0, 113, 101, 15, 160], &cookie));
        assert!(!Cookies::new(&[2; 32]).check(now, SOURCE, &cookie));
        for bit in 0..COOKIE_LEN * 8 {
            let mut bad = cookie;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!cookies.check(now, SOURCE, &bad));
        }
        assert!(!cookies.check(now, SOURCE, &[]));
        assert!(!cookies.check(now, SOURCE, &cookie[..15]));
    }
}
