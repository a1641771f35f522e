//! What the agent answers: one line.

const DONE: &str = "molde: done";
const FAILED: &str = "molde: failed: ";

/// Longest answer in bytes.
pub const ANSWER_MAX: usize = 4096;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All was changed, and every file system was unmounted.
    Done,
    /// Something stood in the way, in a sentence without its full stop.
    Failed(String),
}

impl Answer {
    /// Returns the line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        match self {
            Self::Done => format!("{DONE}\n"),
            Self::Failed(why) => {
                let why: String = why.chars().filter(|character| !character.is_control()).take(900).collect();
                format!("{FAILED}{why}\n")
            }
        }
    }

    /// Reads what came from the serial port; none where it is no whole answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..ANSWER_MAX).unwrap_or(bytes)).ok()?;
        let (line, _) = text.split_once('\n')?;
        let line = line.trim_end();
        if line == DONE {
            return Some(Self::Done);
        }
        line.strip_prefix(FAILED).map(|why| Self::Failed(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_whole_line() {
        for answer in [Answer::Done, Answer::Failed("ä file is there".to_owned())] {
            let line = answer.to_line();
            assert_eq!(Answer::parse(line.as_bytes()), Some(answer.clone()));
            assert_eq!(Answer::parse(line.replace('\n', "\r\n").as_bytes()), Some(answer));
            assert_eq!(Answer::parse(line.trim_end().as_bytes()), None);
        }
        assert_eq!(Answer::parse(b"molde: don\n"), None);
        assert_eq!(Answer::parse(b"\xff\n"), None);
        let long = Answer::Failed("\n\u{1f600}".repeat(2000)).to_line();
        assert!(long.len() <= ANSWER_MAX && Answer::parse(long.as_bytes()).is_some());
    }
}
