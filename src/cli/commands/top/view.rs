//! The screen of `top`: a summary, the table, the detail of the selected process, the keys.
#![forbid(unsafe_code)]

use super::model::{ListLayout, Model, Sort};
use super::row::Row;
use crate::show::units::{short_bytes, short_count};
use crate::system::level::{Level, Thresholds};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row as Cells, Sparkline, Table, TableState};

/// Width of a bar that shows usage, in characters.
const BAR: usize = 10;
/// A screen of so many columns has room for all of the list's.
const WIDE: u16 = 104;
/// Height of the detail in lines.
const DETAIL: u16 = 14;

/// Those that fit are shown in the last line; all are in the help.
const KEYS: [&str; 10] = [
    "q leave",
    "? help",
    "s sort",
    "r reverse",
    "/ filter",
    "Enter detail",
    COLUMNS_KEY,
    "arrows choose",
    "D doctor",
    "R rescue",
];
/// Where all columns fit, there are no others to be shown.
const COLUMNS_KEY: &str = "c columns";

/// Draws the whole screen.
pub fn draw(frame: &mut Frame, model: &mut Model) {
    let rows = model.shown();
    let place = model.place(&rows);
    let chosen = place.and_then(|place| rows.get(place)).map(|row| (*row).clone());
    let detail = if model.detail && chosen.is_some() { DETAIL.min(frame.area().height / 2) } else { 0 };
    let lines = [Constraint::Length(1), Constraint::Min(3), Constraint::Length(detail), Constraint::Length(1)];
    let [top, middle, below, bottom] = Layout::vertical(lines).areas(frame.area());
    let mut summary = summary(model, rows.len());
    if summary.width() > top.width.into() {
        // What is said counts more than who says it.
        summary.spans.remove(0);
    }
    frame.render_widget(summary, top);
    let mut layout = ListLayout::default();
    if let Some(panel) = &model.panel {
        panel.draw(frame, middle.union(below));
    } else {
        layout = table(frame, middle, &rows, place, model.layout.offset, chosen_columns(model, middle.width));
        if let Some(row) = chosen.as_ref().filter(|_| detail > 0) {
            inside(frame, below, row, &model.past(row));
        }
    }
    let last = last_line(model, bottom.width.into());
    frame.render_widget(Paragraph::new(last).style(Style::new().add_modifier(Modifier::DIM)), bottom);
    model.layout = layout;
    model.choose(chosen.map(|row| row.pid));
}

/// What is typed, asked or under way, and as many keys as there is room for.
fn last_line(model: &Model, width: usize) -> String {
    let name = |pid: u32| model.rows().iter().find(|row| row.pid == pid).map_or("?", |row| &row.program);
    let mut text = match (&model.asked, model.typing, model.filter.is_empty()) {
        (Some((action, pid)), ..) if action.question().is_some() => {
            return format!("{} {} (process {pid})? y: yes", action.question().unwrap_or_default(), name(*pid));
        }
        (_, true, _) => return format!("filter: {}_", model.filter),
        (_, false, false) => format!("filter: {} (Esc clears)", model.filter),
        _ => String::new(),
    };
    if let Some((_, pid)) = model.running.filter(|_| model.panel.is_none()) {
        text = format!("asking about {} (process {pid}) ...", name(pid));
    }
    for key in KEYS.into_iter().filter(|key| *key != COLUMNS_KEY || width < WIDE.into()) {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.chars().count() + gap.len() + key.len() > width {
            break;
        }
        text.push_str(gap);
        text.push_str(key);
    }
    text
}

fn colour(percent: f64) -> Style {
    Style::new().fg(match Thresholds::usage().level(percent) {
        Level::Critical => Color::Red,
        Level::Warning | Level::Unknown => Color::Yellow,
        Level::Ok => Color::Green,
    })
}

/// Names of processes that are well keep the terminal's own colour.
fn name_style(row: &Row) -> Style {
    match severity(row) {
        Level::Critical => Style::new().fg(Color::Red),
        Level::Warning | Level::Unknown => Style::new().fg(Color::Yellow),
        Level::Ok => Style::new(),
    }
}

fn summary(model: &Model, shown: usize) -> Line<'static> {
    let rows = model.rows();
    let nearest = rows.iter().map(|row| row.percent).fold(0.0, f64::max);
    let gave_up = rows.iter().fold(0, |sum: u64, row| sum.saturating_add(row.gave_up));
    let full = rows.iter().filter(|row| row.full).count();
    let bad = |yes: bool| if yes { Style::new().fg(Color::Red) } else { Style::new() };
    Line::from(vec![
        Span::styled("tideover ", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(
            "{shown} of {} {}, nearest ",
            rows.len(),
            if rows.iter().all(|row| row.guarded) { "guarded" } else { "processes" }
        )),
        Span::styled(format!("{nearest:.0} %"), colour(nearest)),
        Span::styled(format!(", gave up {}", short_count(gave_up)), bad(gave_up > 0)),
        Span::styled(format!(", full disks {full}"), bad(full > 0)),
        Span::raw(format!(", by {}{}", model.sort.name(), if model.reversed { ", reversed" } else { "" })),
    ])
}

/// Which columns are shown, by their places in [`columns`] and [`cells`].
fn chosen_columns(model: &Model, width: u16) -> &'static [usize] {
    match (width >= WIDE, model.limits) {
        (true, _) => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        (false, false) => &[0, 1, 3, 4, 5, 7, 8, 9, 10],
        (false, true) => &[0, 1, 2, 3, 4, 5, 6, 10],
    }
}

/// All headings with their widths, and what a click on them sorts by. The columns of numbers have fixed widths; the names take what is left.
const fn columns() -> [(&'static str, Constraint, Option<Sort>); 11] {
    [
        ("    PID", Constraint::Length(7), Some(Sort::Pid)),
        ("PROGRAM", Constraint::Min(8), Some(Sort::Program)),
        ("SERVICE", Constraint::Min(12), None),
        ("USE", Constraint::Length(BAR as u16 + 5), Some(Sort::Usage)),
        ("   USED", Constraint::Length(7), Some(Sort::Used)),
        ("   SOFT", Constraint::Length(7), None),
        ("   HARD", Constraint::Length(7), None),
        ("EXHAUST", Constraint::Length(7), Some(Sort::Exhausted)),
        ("RECOVER", Constraint::Length(7), None),
        ("GAVE UP", Constraint::Length(7), Some(Sort::GaveUp)),
        ("LOGS", Constraint::Length(6), Some(Sort::Logs)),
    ]
}

fn table(
    frame: &mut Frame,
    area: Rect,
    rows: &[&Row],
    place: Option<usize>,
    offset: usize,
    chosen: &[usize],
) -> ListLayout {
    let columns: Vec<_> =
        columns().into_iter().enumerate().filter(|it| chosen.contains(&it.0)).map(|it| it.1).collect();
    let widths: Vec<Constraint> = columns.iter().map(|column| column.1).collect();
    let headings = columns.iter().map(|column| column.0);
    let places = Layout::horizontal(&widths).spacing(1).split(area);
    let sorts =
        places.iter().zip(&columns).filter_map(|(place, column)| Some((place.left()..place.right(), column.2?)));
    let sorts = sorts.collect();
    let head = Cells::new(headings).style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED));
    let table = Table::new(rows.iter().map(|row| cells(row, chosen)), widths)
        .header(head)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_offset(offset.min(rows.len())).with_selected(place);
    frame.render_stateful_widget(table, area, &mut state);
    if rows.is_empty() {
        let hint = Paragraph::new("No guarded process. Start one with `tideover run PROGRAM`.");
        frame.render_widget(hint, Rect { y: area.y.saturating_add(1), height: 1.min(area.height), ..area });
    }
    ListLayout { headings: area.y, end: area.bottom(), offset: state.offset(), sorts }
}

/// How bad it is with a process: the worst of its usage, calls that have given up, and full disks.
fn severity(row: &Row) -> Level {
    let usage = Thresholds::usage().level(row.percent);
    let trouble = match (row.full, row.gave_up, row.outside) {
        (true, ..) | (.., "abandoned") => Level::Critical,
        (false, 1.., _) | (.., "parked") => Level::Warning,
        _ => Level::Ok,
    };
    usage.max(trouble)
}

fn cells(row: &Row, chosen: &[usize]) -> Cells<'static> {
    let right = |n: u64| Cell::from(format!("{:>7}", short_count(n)));
    let trouble = |n: u64| right(n).style(if n > 0 { Style::new().fg(Color::Red) } else { Style::new() });
    let logs = match (row.full, row.diverted) {
        // A guard from outside knows nothing of logs; its word stands there.
        _ if row.outside == "abandoned" => Cell::from("parked").style(Style::new().fg(Color::Red)),
        _ if !row.outside.is_empty() => Cell::from(row.outside),
        (true, _) => Cell::from("full").style(Style::new().fg(Color::Red)),
        (false, 0) => Cell::from("ok"),
        (false, bytes) => Cell::from(short_bytes(bytes)),
    };
    let cells = [
        Cell::from(format!("{:>7}", row.pid)),
        Cell::from(row.program.clone()).style(name_style(row)),
        Cell::from(row.service.clone()),
        Cell::from(bar(row.percent)).style(colour(row.percent)),
        right(row.used),
        right(row.limits.0),
        right(row.limits.1),
        right(row.exhausted),
        right(row.recovered),
        trouble(row.gave_up),
        logs,
    ];
    let cells = cells.into_iter().enumerate().filter(|it| chosen.contains(&it.0)).map(|it| it.1);
    let cells = Cells::new(cells);
    if row.guarded { cells } else { cells.style(Style::new().add_modifier(Modifier::DIM)) }
}

/// A bar that shows usage without colours and without Unicode: `#######---  72%`.
fn bar(percent: f64) -> String {
    let filled = ((percent / 100.0 * BAR as f64).round() as usize).min(BAR);
    format!("{}{} {:>3.0}%", "#".repeat(filled), "-".repeat(BAR - filled), percent)
}

fn inside(frame: &mut Frame, area: Rect, row: &Row, past: &[u64]) {
    let service = if row.service.is_empty() { String::new() } else { format!(", {}", row.service) };
    let title = format!(
        " {} (process {}{service}): {} of {}, hard limit {} ",
        row.program,
        row.pid,
        row.used,
        row.limits.0,
        short_count(row.limits.1)
    );
    let block = Block::new().borders(Borders::TOP).title(title);
    let room = block.inner(area);
    frame.render_widget(block, area);
    let [graph, list] = Layout::vertical([Constraint::Length(4.min(room.height / 2)), Constraint::Min(0)]).areas(room);
    let from = past.len().saturating_sub(graph.width as usize);
    let recent = past.get(from..).unwrap_or_default();
    let graph_style = colour(row.percent);
    frame.render_widget(Sparkline::default().data(recent).max(row.limits.0.max(1)).style(graph_style), graph);
    let events: Vec<Line> =
        row.events.lines().rev().take(list.height as usize).map(|line| Line::raw(line.to_string())).collect();
    let events = if events.is_empty() { vec![Line::raw("no events so far")] } else { events };
    frame.render_widget(Paragraph::new(events), list);
}

#[cfg(test)]
mod tests {
    use super::super::action::Action;
    use super::super::panel::Panel;
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let line =
            |y| (0..width).map(|x| buffer[(x, y)].symbol().to_string()).collect::<String>().trim_end().to_string();
        (0..height).map(line).collect()
    }

    #[test]
    fn everything_fits_80_columns() {
        let mut model = Model::example(&[("a-program-with-a-long-name", 4_194_304, 72, 3), ("nginx", 7, 10, 0)]);
        let lines = screen(&mut model, 80, 10);
        assert_eq!(lines[0], "tideover 2 of 2 guarded, nearest 72 %, gave up 3, full disks 0, by usage");
        assert_eq!(lines[1], "    PID PROGRAM   USE                USED    SOFT EXHAUST RECOVER GAVE UP LOGS");
        assert_eq!(lines[2], "4194304 a-program #######---  72%      72     100       6       3       3 ok");
        assert!(lines[9].contains("q leave"), "{lines:?}");
    }

    #[test]
    fn a_process_that_is_guarded_from_outside_is_told_from_others() {
        let mut model =
            Model::example(&[("nginx", 7, 80, 0), ("static", 8, 70, 0), ("left", 9, 60, 0), ("own", 10, 50, 0)]);
        for (pid, now) in [(7, "guard"), (8, "parked"), (9, "abandoned")] {
            model.guard_from_outside(pid, now);
        }
        let lines = screen(&mut model, 80, 10);
        let ends: Vec<&str> = lines[2..6].iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(ends, ["guard", "parked", "parked", "ok"]);
        let levels: Vec<Level> = model.rows().iter().map(severity).collect();
        assert_eq!(levels, [Level::Warning, Level::Warning, Level::Critical, Level::Ok], "80 % is a warning by itself");
    }

    #[test]
    fn a_wide_screen_has_the_service_and_the_hard_limit() {
        let mut model = Model::example(&[("nginx", 7, 10, 0)]);
        let lines = screen(&mut model, 120, 6);
        assert!(lines[1].contains("SERVICE") && lines[1].contains("   SOFT    HARD EXHAUST"), "{lines:?}");
        assert!(lines[2].contains("    100    4096"), "{lines:?}");
    }

    #[test]
    fn a_key_shows_the_service_and_the_hard_limit_on_a_screen_of_80_columns() {
        let mut model = Model::example(&[("a-program-with-a-long-name", 4_194_304, 72, 3), ("nginx", 7, 10, 0)]);
        assert!(!screen(&mut model, 80, 10)[1].contains("HARD"));
        model.limits = true;
        let lines = screen(&mut model, 80, 10);
        assert_eq!(lines[1], "    PID PROGRAM      SERVICE      USE                USED    SOFT    HARD LOGS");
        assert!(lines[2].ends_with("#######---  72%      72     100    4096 ok"), "{lines:?}");
        assert!(lines[9].ends_with("Enter detail  c columns"), "{lines:?}");
        // A click on a heading sorts by what stands there now.
        assert_eq!(model.layout.sorts.len(), 5);
        let wide = screen(&mut model, 120, 6);
        assert!(wide[1].contains("HARD EXHAUST") && !wide[5].contains("c columns"), "{wide:?}");
    }

    #[test]
    fn the_detail_shows_graph_and_events() {
        let mut model = Model::example(&[("nginx", 7, 80, 0)]);
        model.detail = true;
        let lines = screen(&mut model, 80, 30);
        assert!(lines.iter().any(|line| line.contains("nginx (process 7): 80 of 100, hard limit 4096")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("exhausted  open  EMFILE")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains('\u{2588}')), "a graph: {lines:#?}");
    }

    #[test]
    fn the_worst_is_red_and_hints_fit_beside_a_filter() {
        let mut model =
            Model::example(&[("full", 7, 10, 0), ("gave-up", 8, 10, 3), ("near", 9, 95, 0), ("well", 10, 10, 0)]);
        model.worsen(7);
        let levels: Vec<Level> = model.rows().iter().map(severity).collect();
        assert_eq!(levels, [Level::Critical, Level::Warning, Level::Critical, Level::Ok]);
        (model.sort, model.reversed) = (Sort::Exhausted, true);
        let first = screen(&mut model, 80, 10).remove(0);
        assert_eq!(first, "4 of 4 guarded, nearest 95 %, gave up 3, full disks 1, by exhausted, reversed");
        model.filter = "a filter of forty characters, the most ".into();
        let last = screen(&mut model, 80, 10).pop().unwrap();
        assert!(last.starts_with("filter: a filter of forty characters, the most  (Esc clears)  q leave  "), "{last}");
        let last = screen(&mut model, 120, 10).pop().unwrap();
        assert!(last.ends_with("Enter detail") && !last.contains("rescue"), "{last}");
        model.filter.clear();
        let last = screen(&mut model, 120, 10).pop().unwrap();
        assert!(last.contains("D doctor  R rescue"), "{last}");
        model.asked = Some((Action::Rescue, 7));
        assert_eq!(screen(&mut model, 80, 10)[9], "raise the soft limit of full (process 7)? y: yes");
    }

    #[test]
    fn a_text_stands_over_the_list() {
        let mut model = Model::example(&[("nginx", 7, 80, 0)]);
        model.panel = Some(Panel::help());
        let lines = screen(&mut model, 80, 24);
        assert!(lines[1].contains(" keys (Esc closes) ") && lines[2].starts_with("arrows, j, k"), "{lines:#?}");
        assert!(lines.iter().all(|line| !line.contains("nginx")), "{lines:#?}");
        for (width, height) in [(1, 1), (5, 3), (200, 2)] {
            screen(&mut model, width, height);
        }
    }

    #[test]
    fn no_terminal_is_too_small_and_none_is_empty() {
        let mut model = Model::example(&[("nginx", 7, 80, 0)]);
        model.detail = true;
        for (width, height) in [(1, 1), (5, 3), (200, 2), (20, 60)] {
            screen(&mut model, width, height);
        }
        let lines = screen(&mut Model::default(), 80, 5);
        assert!(lines[2].starts_with("No guarded process."), "{lines:?}");
        model.filter = "nothing like it".into();
        model.typing = true;
        assert!(screen(&mut model, 80, 5)[4].starts_with("filter: nothing like it_"));
    }
}
