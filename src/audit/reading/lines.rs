//! Bytes become lines, lines become entries, in bounded memory.

use std::io::{self, Read};
use std::ops::ControlFlow;

use super::entry::Entry;

/// Longer lines are no records of ours, whose texts are cut.
const LONGEST: usize = 1 << 20;
const CHUNK: usize = 64 << 10;

/// One line of the record.
pub struct Line<'a> {
    /// As it is in the file.
    pub text: &'a str,
    /// What it says.
    pub entry: Entry,
}

type Visit<'v> = dyn FnMut(&Line<'_>) -> ControlFlow<()> + 'v;

/// A reading of one or more files: hands their lines to a visitor and counts what is none.
pub struct Reading<'v> {
    visit: &'v mut Visit<'v>,
    /// The beginning of a line whose end has not been read.
    begun: Vec<u8>,
    /// Whether that line is too long already and only its end is looked for.
    skipping: bool,
    chunk: Vec<u8>,
    /// Lines that are no records.
    pub broken: u64,
    /// Files that end within a line.
    pub cut: u64,
}

impl<'v> Reading<'v> {
    /// The visitor is called with each line in turn and may end the reading.
    pub fn new(visit: &'v mut Visit<'v>) -> Self {
        Self { visit, begun: Vec::new(), skipping: false, chunk: vec![0; CHUNK], broken: 0, cut: 0 }
    }

    /// Reads what there is. A line whose end is not there yet waits for the next call.
    ///
    /// # Errors
    /// When reading fails; what came before has been handed on.
    pub fn pull(&mut self, from: &mut impl Read) -> io::Result<ControlFlow<()>> {
        loop {
            let mut chunk = std::mem::take(&mut self.chunk);
            let read = from.read(&mut chunk);
            let flow = match &read {
                Ok(length) => self.take(&chunk[..*length]),
                Err(_) => ControlFlow::Continue(()),
            };
            self.chunk = chunk;
            match read {
                Ok(0) => return Ok(ControlFlow::Continue(())),
                Ok(_) if flow.is_break() => return Ok(flow),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The file has ended for good. What is left is a record whose newline is missing, or half of one.
    pub fn end(&mut self) -> ControlFlow<()> {
        let rest = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.skipping) {
            self.cut += 1;
        } else if !rest.is_empty() {
            let broken = self.broken;
            let flow = self.line(&rest);
            if self.broken > broken {
                (self.broken, self.cut) = (broken, self.cut + 1);
            }
            return flow;
        }
        ControlFlow::Continue(())
    }

    fn take(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(end) = part.strip_suffix(b"\n") else {
                self.begin(part);
                break;
            };
            if self.begun.is_empty() && !self.skipping {
                self.line(end)?;
                continue;
            }
            self.begin(end);
            let whole = std::mem::take(&mut self.begun);
            match std::mem::take(&mut self.skipping) {
                true => self.broken += 1,
                false => self.line(&whole)?,
            }
        }
        ControlFlow::Continue(())
    }

    fn begin(&mut self, part: &[u8]) {
        if self.skipping || self.begun.len() + part.len() > LONGEST {
            self.begun = Vec::new();
            self.skipping = true;
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn line(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return ControlFlow::Continue(());
        }
        let read = std::str::from_utf8(bytes).ok().and_then(|text| Some((text, Entry::parse(text)?)));
        match read {
            Some((text, entry)) => (self.visit)(&Line { text, entry }),
            None => {
                self.broken += 1;
                ControlFlow::Continue(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(trace: &str) -> String {
        format!(
            r#"{{"createdDateTime":"2026-09-21T14:13:20Z","traceId":"{trace}","status":{{"errorCode":0}},"outcome":"granted"}}"#
        )
    }

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    /// Traces of the records, broken lines, and files cut off.
    fn read(bytes: &[u8], drop: usize) -> (Vec<String>, u64, u64) {
        let mut found = Vec::new();
        let mut visit = |line: &Line<'_>| {
            found.push(line.entry.trace_id.clone().unwrap());
            ControlFlow::Continue(())
        };
        let mut reading = Reading::new(&mut visit);
        let _ = reading.pull(&mut Drops(bytes, drop)).unwrap();
        let _ = reading.end();
        let (broken, cut) = (reading.broken, reading.cut);
        (found, broken, cut)
    }

    #[test]
    fn lines_are_whole_however_their_bytes_come() {
        let text = format!("{}\n{}\n\n{}\n", record("é1"), record("2"), record("3"));
        for drop in [1, 2, 7, 1000, CHUNK] {
            let wanted = ["é1", "2", "3"].map(str::to_owned).to_vec();
            assert_eq!(read(text.as_bytes(), drop), (wanted, 0, 0), "{drop}");
        }
    }

    #[test]
    fn what_is_no_record_is_counted_and_left_out() {
        let (one, two) = (record("1"), record("2"));
        for (between, broken) in [
            ("{\"half", 1),
            ("{}\n[]\nnonsense", 3),
            ("\u{0}", 1),
            (&*"x".repeat(LONGEST + 1), 1),
            (" \r", 0),
        ] {
            let text = format!("{one}\n{between}\n{two}\n");
            assert_eq!(read(text.as_bytes(), CHUNK), (vec!["1".to_owned(), "2".to_owned()], broken, 0));
        }
        let bytes = [one.as_bytes(), b"\n\xff\xfe\n", two.as_bytes()].concat();
        assert_eq!(read(&bytes, 3), (vec!["1".to_owned(), "2".to_owned()], 1, 0));
    }

    #[test]
    fn a_last_line_without_its_end_counts_if_it_is_whole() {
        let (one, two) = (record("1"), record("2"));
        assert_eq!(read(format!("{one}\n{two}").as_bytes(), 5).0, ["1", "2"]);
        for cut in [1, two.len() / 2, two.len() - 1] {
            let text = format!("{one}\n{}", &two[..cut]);
            assert_eq!(read(text.as_bytes(), 5), (vec!["1".to_owned()], 0, 1), "{cut}");
        }
        assert_eq!(read(&vec![b'x'; 2 * LONGEST], CHUNK), (vec![], 0, 1));
    }

    #[test]
    fn the_visitor_may_end_it() {
        let text = format!("{}\n{}\n", record("1"), record("2"));
        let mut seen = 0;
        let mut visit = |_: &Line<'_>| {
            seen += 1;
            ControlFlow::Break(())
        };
        assert!(Reading::new(&mut visit).pull(&mut text.as_bytes()).unwrap().is_break());
        assert_eq!(seen, 1);
    }

    #[test]
    fn memory_is_that_of_one_line() {
        let mut visit = |_: &Line<'_>| ControlFlow::Continue(());
        let mut reading = Reading::new(&mut visit);
        let _ = reading.pull(&mut io::repeat(b'x').take(64 << 20)).unwrap();
        assert!(reading.begun.capacity() <= 2 * LONGEST && reading.chunk.len() == CHUNK);
    }
}
