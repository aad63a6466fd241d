//! A text over the list: the help, and what a command has said.
#![forbid(unsafe_code)]

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

/// The keys, in 20 lines of at most 78 columns.
pub const HELP: &str = "\
arrows, j, k    choose a process; PageUp, PageDown, Home, End go further
Enter           events and a graph of its descriptors, below the list
/               filter by name or process id; Esc clears it
s, r            sort by the next column; the other way round
c               service and hard limit, or the counts: below 104 columns
u d e g l n p   sort by usage, descriptors, exhausted, gave up, logs, name, pid
q, Esc          leave, or close this text

With the process that is chosen:
D               doctor: what is short, and which command helps
R               rescue: raise its soft limit
F, O            control: the library passes everything through (off), acts (on)
L               control: it reads the policy file again

Mouse: a click chooses or sorts by a heading; the wheel moves; Shift marks text.

Colours: red is critical (90 % of the descriptors that it can have, a log's disk
is full), yellow a warning (70 %, or calls have given up). GAVE UP counts calls
whose error the program got, RECOVER those that succeeded in the end. Under LOGS
stands guard or parked where a tideover guard has the process from outside.";

/// A text with a title, and how far it is scrolled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Panel {
    title: String,
    lines: Vec<String>,
    from: usize,
}

impl Panel {
    /// A text. Empty lines at its end are left out.
    pub fn new(title: String, lines: impl Iterator<Item = String>) -> Panel {
        let mut lines: Vec<String> = lines.collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        Panel { title, lines, from: 0 }
    }

    /// The help.
    pub fn help() -> Panel {
        Panel::new("keys".to_string(), HELP.lines().map(str::to_string))
    }

    /// Scrolls by so many lines.
    pub fn scroll(&mut self, by: isize) {
        self.from = self.from.saturating_add_signed(by).min(self.lines.len().saturating_sub(1));
    }

    /// Draws it over an area.
    pub fn draw(&self, frame: &mut Frame, area: Rect) {
        let block = Block::new().borders(Borders::TOP).title(format!(" {} (Esc closes) ", self.title));
        let shown: Vec<Line> = self.lines.iter().skip(self.from).map(|line| Line::raw(line.as_str())).collect();
        frame.render_widget(Paragraph::new(shown).wrap(Wrap { trim: false }).block(block), area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_fits_the_smallest_usual_screen() {
        assert!(HELP.lines().count() <= 20 && HELP.lines().all(|line| line.chars().count() <= 80), "{HELP}");
        let mut panel = Panel::new("x".into(), ["a", "b", "", ""].iter().map(ToString::to_string));
        assert_eq!(panel.lines, ["a", "b"]);
        panel.scroll(isize::MAX);
        assert_eq!(panel.from, 1);
        panel.scroll(isize::MIN);
        assert_eq!(panel.from, 0);
    }
}
