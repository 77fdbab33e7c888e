//! Numbers that are valid as what they look like: of payment cards (ISO/IEC 7812: issuer, length, check digit) and of bank accounts
//! (ISO 13616: country, length, remainder by 97).
//!
//! Those that makers of payment software and standards give as examples are left out.

use smol_str::SmolStr;

/// Card numbers that are published for tests.
const TEST_CARDS: [&str; 18] = [
    "4242424242424242",
    "4111111111111111",
    "4012888888881881",
    "4000056655665556",
    "4000000000000002",
    "4000002500003155",
    "4222222222222",
    "5555555555554444",
    "5105105105105100",
    "5200828282828210",
    "2223003122003222",
    "378282246310005",
    "371449635398431",
    "6011111111111117",
    "6011000990139424",
    "3530111333300000",
    "30569309025904",
    "38520000023237",
];
/// IBANs that are published as examples.
const TEST_IBANS: [&str; 6] = [
    "DE89370400440532013000",
    "GB82WEST12345698765432",
    "GB29NWBK60161331926819",
    "FR1420041010050500013M02606",
    "CH9300762011623852957",
    "NL91ABNA0417164300",
];
/// Countries and the lengths of their IBANs (SWIFT IBAN registry, release 99).
const LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 \
    FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 \
    MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 \
    UA29 VA22 VG24 XK20 YE30";
/// The length of an entry there, with the blank behind it.
const ENTRY: usize = 5;
/// Digits in the longest card number.
const LONGEST_CARD: usize = 19;
/// Characters in the longest IBAN.
const LONGEST_IBAN: usize = 34;

/// The kinds of valid numbers in the texts, each once: `payment_card`, `iban`.
pub(super) fn kinds(texts: &[SmolStr]) -> Vec<SmolStr> {
    let mut found = Vec::new();
    if texts.iter().any(|text| has_card(text)) {
        found.push(SmolStr::new_static("payment_card"));
    }
    if texts.iter().any(|text| has_iban(text)) {
        found.push(SmolStr::new_static("iban"));
    }
    found
}

fn has_card(text: &str) -> bool {
    // No issuer's numbers begin with other digits.
    starts(text, |byte| matches!(byte, b'2'..=b'6')).any(|rest| {
        let (digits, ends) = gathered(rest, LONGEST_CARD, u8::is_ascii_digit);
        ends.into_iter().filter_map(|end| digits.get(..end)).any(is_card)
    })
}

fn has_iban(text: &str) -> bool {
    starts(text, u8::is_ascii_uppercase).any(|rest| {
        // Check digits follow the country: most words in capitals are none by that.
        let ([first, second, b'0'..=b'9', ..] | [first, second, b' ' | b'-', b'0'..=b'9', ..]) = rest else { return false };
        let mut countries = LENGTHS.as_bytes().chunks(ENTRY);
        let entry = countries.find_map(|entry| entry.strip_prefix(&[*first, *second])).and_then(|entry| entry.get(..2));
        let Some(length) = entry.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok()) else { return false };
        // Without a bound behind it, as words may follow in capitals; it is its country's length that ends it.
        let (letters, _) = gathered(rest, LONGEST_IBAN, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        letters.get(..length).is_some_and(is_iban)
    })
}

/// What begins with such a byte, behind none that is a letter, a digit or part of a number.
fn starts(text: &str, begins: fn(&u8) -> bool) -> impl Iterator<Item = &[u8]> {
    let bytes = text.as_bytes();
    let apart = |at: usize| {
        at.checked_sub(1).and_then(|before| bytes.get(before)).is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"._".contains(byte))
    };
    (0..bytes.len()).filter(move |at| bytes.get(*at).is_some_and(begins) && apart(*at)).filter_map(move |at| bytes.get(at..))
}

/// The bytes that belong to it, without the single blanks or dashes between them, at most `most` and one more, by which a longer one is
/// known; and the lengths at which a group ends, as the number may end there.
fn gathered(text: &[u8], most: usize, belongs: fn(&u8) -> bool) -> (String, Vec<usize>) {
    let (mut out, mut ends) = (String::with_capacity(most + 1), Vec::new());
    let mut gap = false;
    for byte in text {
        match byte {
            byte if belongs(byte) && out.len() <= most => {
                out.push(char::from(*byte));
                gap = false;
            }
            b' ' | b'-' if !gap => {
                ends.push(out.len());
                gap = true;
            }
            _ => break,
        }
    }
    if !gap {
        ends.push(out.len());
    }
    (out, ends)
}

fn is_card(digits: &str) -> bool {
    let begins = |length: usize| digits.get(..length).and_then(|begin| begin.parse::<u32>().ok()).unwrap_or_default();
    let issued = match digits.len() {
        13 | 19 => begins(1) == 4,
        14 => matches!(begins(3), 300..=305 | 360..=369 | 380..=399),
        15 => matches!(begins(2), 34 | 37),
        16 => {
            begins(1) == 4 || matches!(begins(2), 51..=55 | 62 | 65) || matches!(begins(4), 2221..=2720 | 3528..=3589 | 6011 | 6440..=6499)
        }
        _ => false,
    };
    issued && has_check_digit(digits) && !TEST_CARDS.contains(&digits)
}

/// Luhn (ISO/IEC 7812-1, annex B).
fn has_check_digit(digits: &str) -> bool {
    let doubled = |(at, digit): (usize, u8)| {
        let digit = u32::from(digit - b'0') * if at.is_multiple_of(2) { 1 } else { 2 };
        digit / 10 + digit % 10
    };
    digits.bytes().rev().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}

/// Remainder 1 by 97, with the first four characters behind the others and letters as numbers from 10 (ISO 7064, MOD 97-10).
fn is_iban(text: &str) -> bool {
    let Some((first, rest)) = text.split_at_checked(4) else { return false };
    let remainder = rest.chars().chain(first.chars()).try_fold(0_u32, |sum, c| {
        let number = c.to_digit(36)?;
        Some((sum * if number < 10 { 10 } else { 100 } + number) % 97)
    });
    remainder == Some(1)
        && first.get(2..).is_some_and(|check| check.bytes().all(|byte| byte.is_ascii_digit()))
        && !TEST_IBANS.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<SmolStr> {
        kinds(&[SmolStr::new(text)])
    }

    #[test]
    fn valid_numbers_are_found_however_they_are_grouped() {
        for text in [
            "4539 1488 0343 6467",
            "4539148803436467",
            "card: 4539-1488-0343-6467,",
            "371234567890120 exp 11/28",
            "a,5425233430109903\n",
            "4539 1488 0343 6467 11/28 123",
        ] {
            assert_eq!(of(text), ["payment_card"], "{text}");
        }
        for text in ["DE75512108001245126199", "IBAN GB33 BUKB 2020 1555 5555 55 BIC X", "iban=GB33BUKB20201555555555"] {
            assert_eq!(of(text), ["iban"], "{text}");
        }
    }

    #[test]
    fn every_country_has_an_entry_of_one_length() {
        assert!(LENGTHS.split(' ').all(|entry| entry.len() + 1 == ENTRY));
        assert_eq!(of("NO9386011117947"), ["iban"]);
        assert_eq!(of("GB 33BUKB20201555555555"), ["iban"]);
    }

    #[test]
    fn numbers_that_are_not_valid_are_longer_or_are_examples_are_not() {
        for text in [
            "4539 1488 0343 6468",
            "4242 4242 4242 4242",
            "453914880343646712345",
            "1763856000000000",
            "4006381333931",
            "0.4539148803436467",
            "x4539148803436467",
            "DE89 3704 0044 0532 0130 00",
            "DE75512108001245126198",
            "DE7551210800124512619",
            "ZZ75512108001245126199",
            "",
        ] {
            assert_eq!(of(text), Vec::<SmolStr>::new(), "{text}");
        }
    }
}
