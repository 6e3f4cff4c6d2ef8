//! The strokes that the pages are made of: text that fits, rules, bars, marks.
//!
//! Owns the fonts and the rule that text is never cut inside a letter and never leaves its place: it takes the largest font
//! that fits and, failing that, is shortened. Knows nothing of pages or snapshots.
//!
//! The fonts are Adobe's Helvetica bitmaps from the X Window System, converted by the U8g2 project. Their licence permits use,
//! change and distribution as long as its notice is kept.

use embedded_graphics::{
    pixelcolor::BinaryColor,
    prelude::*,
    primitives::{Circle, Line, PrimitiveStyle, Rectangle},
};
use u8g2_fonts::{
    FontRenderer, fonts,
    types::{FontColor, HorizontalAlignment, VerticalPosition},
};

use crate::frame::{Frame, HEIGHT, WIDTH};

/// The leftmost column that pages use: one pixel is left free on every side, for the shift against burn-in.
pub(super) const LEFT: i32 = 1;
/// The rightmost column that pages use.
pub(super) const RIGHT: i32 = WIDTH as i32 - 2;
/// Columns that pages use.
pub(super) const SPAN: i32 = RIGHT - LEFT + 1;

/// Columns of the fact in a header at most: the rest is the title's.
const FACT_SPAN: i32 = 80;

/// Letters of 8 pixels: what may be read by stepping closer.
pub(super) const SMALL: FontRenderer = FontRenderer::new::<fonts::u8g2_font_helvB08_tf>();
/// Letters of 10 to 11 pixels: names and addresses.
pub(super) const MEDIUM: FontRenderer = FontRenderer::new::<fonts::u8g2_font_helvB10_tf>();
/// Letters of 12 pixels: short answers.
pub(super) const LARGE: FontRenderer = FontRenderer::new::<fonts::u8g2_font_helvB12_tf>();
/// Letters of 18 pixels: the one thing a page says.
pub(super) const HUGE: FontRenderer = FontRenderer::new::<fonts::u8g2_font_helvB18_tf>();
/// Letters of 24 pixels: codes and countdowns.
pub(super) const GIANT: FontRenderer = FontRenderer::new::<fonts::u8g2_font_helvB24_tf>();

/// Where a text stands on its line.
#[derive(Clone, Copy)]
pub(super) enum Align {
    Left,
    Center,
    Right,
}

impl Align {
    fn anchor(self) -> (i32, HorizontalAlignment) {
        match self {
            Self::Left => (LEFT, HorizontalAlignment::Left),
            Self::Center => (WIDTH as i32 / 2, HorizontalAlignment::Center),
            Self::Right => (RIGHT + 1, HorizontalAlignment::Right),
        }
    }
}

/// Draws into a frame whose picture is not finished yet.
pub(super) struct Painter {
    frame: Frame,
}

impl Painter {
    pub(super) fn new() -> Self {
        Self { frame: Frame::dark() }
    }

    pub(super) fn finish(self) -> Frame {
        self.frame
    }

    /// One line of text on its baseline, in the first of `fonts` in which it fits the width, else shortened in the last.
    pub(super) fn line(&mut self, fonts: &[&FontRenderer], text: &str, baseline: i32, align: Align) {
        let (x, _) = align.anchor();
        self.line_within(fonts, text, Point::new(x, baseline), SPAN, align);
    }

    /// Like `line`, at any place and in `width` columns.
    pub(super) fn line_within(&mut self, fonts: &[&FontRenderer], text: &str, at: Point, width: i32, align: Align) {
        if let Some((font, text)) = fit(fonts, &printable(text), width) {
            let (_, alignment) = align.anchor();
            let color = FontColor::Transparent(BinaryColor::On);
            let position = VerticalPosition::Baseline;
            // A frame cannot fail, and `printable` leaves no letter that the fonts lack.
            let inside = at + overhang(font, &text, at, alignment);
            drop(font.render_aligned(text.as_str(), inside, position, alignment, color, &mut self.frame));
        }
    }

    /// The title and a short fact on its right, over a rule.
    pub(super) fn header(&mut self, title: &str, fact: &str) {
        self.line_within(&[&SMALL], fact, Point::new(RIGHT + 1, 9), FACT_SPAN, Align::Right);
        let free = SPAN - width_of(&SMALL, &printable(fact)).min(FACT_SPAN) - 4;
        self.line_within(&[&SMALL], title, Point::new(LEFT, 9), free, Align::Left);
        self.rule(12);
    }

    /// A message under a header: in three lines of medium letters where they hold it, else in as many parts of four small
    /// ones as it takes, which are shown in `turn`. Where there are several, the header says which this is instead of the title.
    pub(super) fn message(&mut self, title: &str, fact: &str, text: &str, turn: usize) {
        let lines = |font| break_lines(font, &printable(text), SPAN, usize::MAX);
        let (large, small) = (lines(&MEDIUM), lines(&SMALL));
        if large.len() <= 3 {
            self.header(title, fact);
            return self.lines(&MEDIUM, &large, 26, 17);
        }
        let parts: Vec<_> = small.chunks(4).collect();
        let part = turn % parts.len();
        match parts.len() {
            1 => self.header(title, fact),
            all => self.header(&format!("! {} of {all}", part + 1), fact),
        }
        self.lines(&SMALL, parts[part], 24, 12);
    }

    /// Words in as many lines as fit from `first` baseline on, `step` pixels apart, at most `lines`; the rest is shortened.
    pub(super) fn paragraph(&mut self, font: &FontRenderer, text: &str, first: i32, step: usize, lines: usize) {
        self.lines(font, &break_lines(font, &printable(text), SPAN, lines), first, step);
    }

    /// Lines of text from `first` baseline on, `step` pixels apart.
    fn lines(&mut self, font: &FontRenderer, lines: &[String], first: i32, step: usize) {
        for (line, baseline) in lines.iter().zip((first..).step_by(step)) {
            self.line(&[font], line, baseline, Align::Left);
        }
    }

    pub(super) fn rule(&mut self, y: i32) {
        self.fill(Point::new(LEFT, y), SPAN, 1);
    }

    /// A bar that is filled from the left by `share`, which is brought to 0..=1 (a share that is no number counts as 0).
    pub(super) fn bar(&mut self, top: i32, height: i32, share: f32) {
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let outline = PrimitiveStyle::with_stroke(BinaryColor::On, 1);
        let area = Rectangle::new(Point::new(LEFT, top), Size::new(SPAN as u32, height as u32));
        self.draw(&area.into_styled(outline));
        let filled = ((SPAN - 4) as f32 * share).round() as i32;
        self.fill(Point::new(LEFT + 2, top + 2), filled, height - 4);
    }

    pub(super) fn fill(&mut self, corner: Point, width: i32, height: i32) {
        let size = Size::new(width.max(0).unsigned_abs(), height.max(0).unsigned_abs());
        self.draw(&Rectangle::new(corner, size).into_styled(PrimitiveStyle::with_fill(BinaryColor::On)));
    }

    /// A disc: full, or a ring.
    pub(super) fn disc(&mut self, corner: Point, diameter: u32, full: bool) {
        let circle = Circle::new(corner, diameter);
        if full {
            self.draw(&circle.into_styled(PrimitiveStyle::with_fill(BinaryColor::On)));
        } else {
            self.draw(&circle.into_styled(PrimitiveStyle::with_stroke(BinaryColor::On, 1)));
        }
    }

    pub(super) fn stroke(&mut self, from: Point, to: Point, width: u32) {
        self.draw(&Line::new(from, to).into_styled(PrimitiveStyle::with_stroke(BinaryColor::On, width)));
    }

    fn draw(&mut self, shape: &impl Drawable<Color = BinaryColor>) {
        let Ok(_) = shape.draw(&mut self.frame);
    }
}

/// Columns that a printable text takes.
pub(super) fn width_of(font: &FontRenderer, text: &str) -> i32 {
    font.get_rendered_dimensions(text, Point::zero(), VerticalPosition::Baseline).map_or(0, |size| size.advance.x)
}

/// How far to move so that letters which lean out of their place, such as `f`, stay between `LEFT` and `RIGHT`, and those that are
/// taller or deeper than others, such as `$`, off the first and the last row.
fn overhang(font: &FontRenderer, text: &str, at: Point, alignment: HorizontalAlignment) -> Point {
    let position = VerticalPosition::Baseline;
    let area = font.get_rendered_dimensions_aligned(text, at, position, alignment).ok().flatten();
    area.map_or(Point::zero(), |area| {
        let end = area.top_left + Point::new(area.size.width as i32 - 1, area.size.height as i32 - 1);
        let inside = |start: i32, end: i32, first: i32, last: i32| (first - start).max(0) + (last - end).min(0);
        Point::new(inside(area.top_left.x, end.x, LEFT, RIGHT), inside(area.top_left.y, end.y, 1, HEIGHT as i32 - 2))
    })
}

/// The text with everything replaced that the fonts lack, control characters included.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if matches!(letter, ' '..='~' | '\u{a1}'..='\u{ff}') { letter } else { '?' }).collect()
}

fn fit<'a>(fonts: &[&'a FontRenderer], text: &str, width: i32) -> Option<(&'a FontRenderer, String)> {
    let fits = fonts.iter().find(|font| width_of(font, text) <= width);
    match fits {
        Some(font) => Some((font, text.to_owned())),
        None => fonts.last().map(|font| (*font, shortened(font, text, width))),
    }
}

/// The longest beginning that fits together with three dots.
fn shortened(font: &FontRenderer, text: &str, width: i32) -> String {
    // No letter is narrower than a pixel: what is beyond can never be seen, and need not be measured.
    let text = text.char_indices().nth(usize::try_from(width).unwrap_or(0)).map_or(text, |(end, _)| &text[..end]);
    let ends = text.char_indices().map(|(at, _)| at).rev();
    let mut candidates = ends.map(|end| format!("{}...", text[..end].trim_end()));
    candidates.find(|candidate| width_of(font, candidate) <= width).unwrap_or_default()
}

/// Breaks at spaces, and inside a word only where the word alone is too long; what exceeds `lines` is shortened.
fn break_lines(font: &FontRenderer, text: &str, width: i32, lines: usize) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && broken.len() + 1 < lines {
        let end = line_end(font, rest, width);
        broken.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        broken.push(rest.to_owned());
    }
    broken
}

fn line_end(font: &FontRenderer, text: &str, width: i32) -> usize {
    let ends = || text.char_indices().map(|(at, _)| at).skip(1).chain([text.len()]);
    let fits = |end: &usize| width_of(font, &text[..*end]) <= width;
    let hard = ends().take_while(fits).last().unwrap_or_else(|| ends().next().unwrap_or(text.len()));
    if hard == text.len() {
        return hard;
    }
    // After a space, or after a colon so that an IPv6 address breaks between its groups.
    text[..hard].rfind([' ', ':', '-']).map_or(hard, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn foreign_letters_are_replaced() {
        assert_eq!(printable("Jürgen\n\u{1b}[2J 日本"), "Jürgen??[2J ??");
    }

    #[test]
    fn words_break_at_spaces_and_addresses_at_colons() {
        let lines = break_lines(&SMALL, "fd12:3456:789a:bcde:f012:3456:789a:bcde", SPAN, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with(':'), "{lines:?}");
        assert_eq!(break_lines(&SMALL, "", SPAN, 2), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn a_line_always_fits(text in "\\PC{0,60}", width in 0..SPAN) {
            let (font, fitted) = fit(&[&GIANT, &SMALL], &printable(&text), width).expect("a font");
            prop_assert!(fitted.is_empty() || width_of(font, &fitted) <= width);
        }

        #[test]
        fn no_letter_is_lost_when_there_are_lines_enough(text in "[a-z :]{0,80}") {
            let joined = break_lines(&MEDIUM, &text, SPAN, 99).concat();
            prop_assert_eq!(joined.replace(' ', ""), text.replace(' ', ""));
        }
    }
}
