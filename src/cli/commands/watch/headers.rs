//! Headers for a webhook, from the command line and from a file.
#![forbid(unsafe_code)]

use crate::show::failure::{Failure, cause};
use std::path::{Path, PathBuf};
use ureq::http::{HeaderName, HeaderValue};

/// A header and its value.
pub type Header = (HeaderName, HeaderValue);

/// The headers of `--header`, and the file of `--header-file`, which is read for each alert, so that it may be changed at any time.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    given: Vec<Header>,
    file: Option<PathBuf>,
}

impl Headers {
    /// Refuses what is no header, and a file that cannot be read, without repeating a value.
    pub fn new<'a>(given: impl Iterator<Item = &'a String>, file: Option<PathBuf>) -> Result<Headers, Failure> {
        let given = given
            .map(|line| parse(line).ok_or_else(|| Failure::usage("--header takes 'Name: value', a header of HTTP")))
            .collect::<Result<_, _>>()?;
        if let Some(path) = &file {
            read(path).map_err(Failure::usage)?;
        }
        Ok(Headers { given, file })
    }

    /// All of them as they are now; those of the file come last.
    pub fn now(&self) -> Result<Vec<Header>, String> {
        let mut all = self.given.clone();
        if let Some(path) = &self.file {
            all.extend(read(path)?);
        }
        Ok(all)
    }
}

/// The headers in a file, one a line; lines that are empty or begin with # are none.
fn read(path: &Path) -> Result<Vec<Header>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the headers in {}: {}", path.display(), cause(&error)))?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(line, number)| {
            parse(line)
                .ok_or_else(|| format!("{} line {number} is no header; write 'Name: value' there", path.display()))
        })
        .collect()
}

fn parse(line: &str) -> Option<Header> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_checked_and_their_values_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, "# a token\n\nAuthorization: Bearer SECRET\n").unwrap();
        let given = ["X-One: 1".to_string()];
        let all = Headers::new(given.iter(), Some(path.clone())).unwrap();
        let text = |headers: Vec<Header>| -> Vec<String> {
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect()
        };
        assert_eq!(text(all.now().unwrap()), ["x-one=1", "authorization=Bearer SECRET"]);
        std::fs::write(&path, "Authorization: Bearer OTHER\nSECRET\n").unwrap();
        assert_eq!(
            all.now().unwrap_err(),
            format!("{} line 2 is no header; write 'Name: value' there", path.display())
        );
        for bad in ["SECRET", "a b: SECRET", ": SECRET", "X: SEC\nRET"] {
            let refused = Headers::new([bad.to_string()].iter(), None).unwrap_err().text;
            assert!(refused.contains("'Name: value'") && !refused.contains("SEC"), "{refused}");
        }
    }
}
