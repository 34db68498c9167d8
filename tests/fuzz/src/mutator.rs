//! Makes new inputs of old ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longer inputs only cost time: size limits are held in front of the readers.
const LONGEST: usize = 24 << 10;

pub struct Mutator {
    state: u64,
    words: &'static [&'static str],
    /// Whether inputs are compact tokens, whose JSON is behind base64url.
    tokens: bool,
}

impl Mutator {
    pub fn new(seed: u64, words: &'static [&'static str], tokens: bool) -> Self {
        Self { state: seed | 1, words, tokens }
    }

    /// xorshift64*: even enough to choose by, and the same for the same seed.
    fn random(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        ((self.random() >> 33) as usize) % bound.max(1)
    }

    /// A changed copy of one of the pool.
    pub fn next(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let at = self.below(pool.len());
        let mut input = pool[at].clone();
        // Of a token mostly what is inside is changed: the outside is soon exhausted.
        if self.tokens && self.below(4) > 0 && self.inside(&mut input, pool) {
            return input;
        }
        self.change(&mut input, pool);
        input
    }

    /// Changes one decoded part of a token; false when there is none.
    fn inside(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) -> bool {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        let at = self.below(parts.len());
        let Ok(mut bytes) = URL_SAFE_NO_PAD.decode(&parts[at]) else { return false };
        self.change(&mut bytes, pool);
        parts[at] = URL_SAFE_NO_PAD.encode(bytes);
        *input = parts.join(".").into_bytes();
        true
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        for _ in 0..=self.below(4) {
            self.step(input, pool);
        }
        input.truncate(LONGEST);
    }

    fn step(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let from = self.below(input.len() + 1);
        let room = (input.len() - from).min(64);
        let to = from + self.below(room + 1);
        match self.below(9) {
            0 if from < input.len() => input[from] ^= 1 << self.below(8),
            1 if from < input.len() => input[from] = self.random().to_le_bytes()[7],
            2 => drop(input.drain(from..to)),
            // The same again, sometimes very often: nesting and repetition.
            3 => {
                let times = if self.below(16) == 0 { 400 } else { 1 + self.below(3) };
                let piece = input[from..to].repeat(times);
                input.splice(from..from, piece);
            }
            4 => {
                let other = self.below(pool.len());
                let other = &pool[other];
                let begin = self.below(other.len() + 1);
                let end = (begin + self.below(256)).min(other.len());
                input.splice(from..to, other[begin..end].iter().copied());
            }
            5 => {
                let bracket = [b'[', b'{', b'(', b'"'][self.below(4)];
                let times = 1 + self.below(40);
                input.splice(from..from, std::iter::repeat_n(bracket, times));
            }
            6 => input.insert(from, self.random().to_le_bytes()[7]),
            _ => {
                let word = self.words[self.below(self.words.len())];
                input.splice(from..to, word.bytes());
            }
        }
    }
}
