//! A JSON reader that acts too early on purpose: every top-level value, and every element of a top-level array, counts as executed with the
//! byte that closes it, whatever follows. It shares no code with gnomon's scanner, so that a mistake there is not repeated here.

/// Finds complete objects in a stream of bytes.
#[derive(Default)]
pub struct Eager {
    depth: usize,
    in_string: bool,
    escaped: bool,
    batch: bool,
    value: Vec<u8>,
}

impl Eager {
    /// Reads further bytes; complete objects are added to `executed`.
    pub fn feed(&mut self, bytes: &[u8], executed: &mut Vec<Vec<u8>>) {
        for byte in bytes {
            self.byte(*byte, executed);
        }
    }

    fn byte(&mut self, byte: u8, executed: &mut Vec<Vec<u8>>) {
        let own = usize::from(self.batch);
        if self.depth > own {
            self.value.push(byte);
        }
        if self.in_string {
            match (self.escaped, byte) {
                (true, _) => self.escaped = false,
                (false, b'\\') => self.escaped = true,
                (false, b'"') => self.in_string = false,
                (false, _) => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' if self.depth == 0 => {
                self.batch = true;
                self.depth = 1;
            }
            b'{' | b'[' => {
                if self.depth == own {
                    self.value.push(byte);
                }
                self.depth += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == own && !self.value.is_empty() {
                    executed.push(std::mem::take(&mut self.value));
                }
                if self.depth == 0 {
                    self.batch = false;
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_value_counts_with_its_last_byte_and_each_element_of_a_batch_by_itself() {
    let (mut eager, mut executed) = (Eager::default(), Vec::new());
    eager.feed(br#" {"a":"}\"]","b":[1,{}]"#, &mut executed);
    assert!(executed.is_empty());
    eager.feed(b"}", &mut executed);
    assert_eq!(executed, [br#"{"a":"}\"]","b":[1,{}]}"#.to_vec()]);
    eager.feed(br#"[{"a":1},{"b":2"#, &mut executed);
    assert_eq!(executed.len(), 2);
    eager.feed(b"}]", &mut executed);
    assert_eq!(executed[2], br#"{"b":2}"#);
}
