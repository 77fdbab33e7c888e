//! Maps positions in a program to the model's own code, for the lines of errors.

/// A line and a column, from one; columns in characters, as far as everything is ASCII.
pub type Spot = (usize, usize);

/// The text of a program, made of pieces whose places are known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Placed {
    pub text: String,
    pub positions: Positions,
    /// Lines that end in the text, and characters of the last one.
    pub(super) end: (usize, usize),
}

/// Finds the spots of bytes of a text that are asked for in order, without beginning anew each time.
#[derive(Debug)]
pub struct Spots<'a> {
    text: &'a str,
    at: usize,
    spot: Spot,
}

impl<'a> Spots<'a> {
    pub fn of(text: &'a str) -> Self {
        Self { text, at: 0, spot: (1, 1) }
    }

    pub fn of_byte(&mut self, at: usize) -> Spot {
        if at < self.at {
            *self = Self::of(self.text);
        }
        let between = self.text.get(self.at..at).unwrap_or_default();
        self.spot = advanced(self.spot, between);
        self.at = at;
        self.spot
    }
}

fn advanced(from: Spot, text: &str) -> Spot {
    match text.rsplit_once('\n') {
        Some((before, last)) => (from.0 + before.matches('\n').count() + 1, last.chars().count() + 1),
        None => (from.0, from.1 + text.chars().count()),
    }
}

/// Pairs of a spot in a text and where that stood, in order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Positions(Vec<(Spot, Spot)>);

impl Positions {
    /// Positions of a text made elsewhere.
    pub fn of(pairs: impl Iterator<Item = (Spot, Spot)>) -> Self {
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        Self(pairs)
    }

    /// The original position of a spot; none if it was added.
    pub fn source(&self, spot: Spot) -> Option<Spot> {
        let before = self.0.partition_point(|(at, _)| *at <= spot);
        let (at, from) = self.0.get(before.checked_sub(1)?)?;
        Some(if at.0 == spot.0 { (from.0, from.1 + spot.1 - at.1) } else { *from })
    }

    /// The positions of a text that was at `start` of another.
    pub fn shifted(mut self, start: Spot) -> Self {
        self.0.iter_mut().for_each(|(_, from)| *from = shift(*from, start));
        self
    }

    /// The positions of a text which itself was made of another.
    pub fn through(mut self, earlier: &Self) -> Self {
        self.0.iter_mut().for_each(|(_, from)| *from = earlier.source(*from).unwrap_or(*from));
        self
    }
}

impl Placed {
    /// Adds what the model did not write.
    pub fn add(&mut self, text: &str) {
        self.text.push_str(text);
        let end = advanced((self.end.0 + 1, self.end.1 + 1), text);
        self.end = (end.0 - 1, end.1 - 1);
    }

    /// Adds what stood at `from` of a text.
    pub fn take(&mut self, text: &str, from: Spot) {
        let mut at = (self.end.0 + 1, self.end.1 + 1);
        for number in 0..=text.matches('\n').count() {
            let stood = if number == 0 { from } else { (from.0 + number, 1) };
            self.positions.0.push((at, stood));
            at = (at.0 + 1, 1);
        }
        self.add(text);
    }
}

/// The spot of a byte in a text.
pub fn spot(text: &str, at: usize) -> Spot {
    advanced((1, 1), text.get(..at).unwrap_or(text))
}

/// The spot of a text that begins at `start` of another.
pub fn shift(from: Spot, start: Spot) -> Spot {
    (from.0 + start.0 - 1, if from.0 == 1 { from.1 + start.1 - 1 } else { from.1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_found_where_it_stood_and_what_was_added_nowhere() {
        let mut placed = Placed::default();
        placed.add("(async()=>{\n");
        placed.take("one\ntwo", (5, 3));
        placed.add("; ");
        placed.take("three", (9, 1));
        assert_eq!(placed.text, "(async()=>{\none\ntwo; three");
        let found = |spot| placed.positions.source(spot);
        assert_eq!(found((1, 4)), None);
        assert_eq!([found((2, 1)), found((2, 3)), found((3, 2)), found((3, 7))], [(5, 3), (5, 5), (6, 2), (9, 2)].map(Some));
        assert_eq!(placed.positions.clone().shifted((10, 1)).source((2, 1)), Some((14, 3)));
    }
}
