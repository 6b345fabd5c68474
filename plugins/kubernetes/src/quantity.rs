//! Amounts as the cluster writes them (`512Mi`, `20G`, `1500m`), in the form it would give back: so a manifest that is sent again is the same.

use std::fmt;

/// The binary suffixes, 1024 apart.
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The decimal suffixes, 1000 apart, from a billionth on.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

/// Where the suffix of one is in [`DECIMAL`].
const ONE: usize = 3;

/// One, in billionths.
const BILLION: i128 = 1_000_000_000;

/// The largest amount a cluster knows.
const LARGEST: i128 = i64::MAX as i128 * BILLION;

/// The longest number that is read: no amount needs more digits.
const LONGEST: usize = 30;

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    Decimal,
    Exponent,
}

/// An amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantity {
    billionths: i128,
    form: Form,
}

/// The text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidQuantity;

impl Quantity {
    /// So many bytes.
    pub fn bytes(bytes: i64) -> Self {
        Self { billionths: i128::from(bytes) * BILLION, form: Form::Binary }
    }

    /// Reads a number with a suffix or an exponent. What is finer than a billionth is rounded up, what is too large becomes the largest amount there is.
    ///
    /// # Errors
    ///
    /// Not such a text.
    pub fn parse(text: &str) -> Result<Self, InvalidQuantity> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = digits.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
        let (number, suffix) = digits.split_at(end.unwrap_or(digits.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(InvalidQuantity);
        }
        let (factor, exponent, form) = factor(suffix)?;
        let whole = whole.trim_start_matches('0');
        if whole.len() > LONGEST || fraction.len() > LONGEST {
            return Err(InvalidQuantity);
        }
        // In billionths: the number without its point, times the factor, with the point moved.
        let number: i128 = match format!("{whole}{fraction}").as_str() {
            "" => 0,
            digits => digits.parse().map_err(|_| InvalidQuantity)?,
        };
        let point = exponent + 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
        let billionths = number
            .checked_mul(factor)
            .and_then(|number| moved(number, point))
            .unwrap_or(LARGEST)
            .min(LARGEST);
        Ok(Self { billionths: sign * billionths, form })
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.billionths == 0
    }
}

/// What a suffix multiplies with: a factor and a power of ten.
fn factor(suffix: &str) -> Result<(i128, i32, Form), InvalidQuantity> {
    let position = |list: &[&str]| list.iter().position(|known| *known == suffix);
    if let Some(position) = position(&DECIMAL) {
        let thousands = i32::try_from(position).unwrap_or_default() - 3;
        return Ok((1, 3 * thousands, Form::Decimal));
    }
    if let Some(position) = position(&BINARY) {
        return Ok((1_i128 << (10 * position), 0, Form::Binary));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(InvalidQuantity)?;
    let exponent: i32 = exponent.parse().map_err(|_| InvalidQuantity)?;
    Ok((1, exponent.clamp(-100, 100), Form::Exponent))
}

/// The number times a power of ten, rounded up; none when it is too large.
fn moved(number: i128, point: i32) -> Option<i128> {
    if number == 0 {
        return Some(0);
    }
    match 10_i128.checked_pow(point.unsigned_abs()) {
        Some(power) if point >= 0 => number.checked_mul(power),
        Some(power) => Some(number / power + i128::from(number % power != 0)),
        None if point >= 0 => None,
        None => Some(1),
    }
}

impl fmt::Display for Quantity {
    /// The largest suffix that leaves a whole number. Less than a KiB, and what is no whole number of bytes, is written in decimals.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let small = self.billionths.abs() < 1024 * BILLION;
        match self.form {
            Form::Binary if !small && self.billionths % BILLION == 0 => {
                let (number, steps) = reduced(self.billionths / BILLION, 1024, BINARY.len());
                let suffix = BINARY.get(steps).copied().unwrap_or_default();
                write!(formatter, "{number}{suffix}")
            }
            Form::Binary | Form::Decimal => {
                let (number, steps) = reduced(self.billionths, 1000, DECIMAL.len());
                let suffix = DECIMAL.get(steps).copied().unwrap_or_default();
                write!(formatter, "{number}{suffix}")
            }
            Form::Exponent => {
                let (number, steps) = reduced(self.billionths, 1000, usize::MAX);
                match steps.cmp(&ONE) {
                    std::cmp::Ordering::Equal => write!(formatter, "{number}"),
                    std::cmp::Ordering::Greater => {
                        write!(formatter, "{number}e{}", 3 * (steps - ONE))
                    }
                    std::cmp::Ordering::Less => {
                        write!(formatter, "{number}e-{}", 3 * (ONE - steps))
                    }
                }
            }
        }
    }
}

/// Divides as long as nothing is lost and there are suffixes left. Zero is zero of ones.
fn reduced(mut number: i128, step: i128, suffixes: usize) -> (i128, usize) {
    if number == 0 {
        return (0, if step == 1000 { ONE } else { 0 });
    }
    let mut steps = 0;
    while number % step == 0 && steps + 1 < suffixes {
        number /= step;
        steps += 1;
    }
    (number, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_suffix_that_fits() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1000, "1k"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1025, "1025"),
            (1536, "1536"),
            (2000, "2000"),
            (1 << 20, "1Mi"),
            (3 << 29, "1536Mi"),
            (1 << 62, "4Ei"),
            (-2048, "-2Ki"),
        ] {
            assert_eq!(Quantity::bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn an_amount_is_written_as_the_cluster_writes_it() {
        for (text, canonical) in [
            ("20Gi", "20Gi"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1.5Ki", "1536"),
            ("1000M", "1G"),
            ("1500m", "1500m"),
            ("2000m", "2"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+5", "5"),
            ("-1k", "-1k"),
            ("0", "0"),
            ("0Gi", "0"),
            ("000012", "12"),
            ("1e3", "1e3"),
            ("12E6", "12e6"),
            ("100e-3", "100e-3"),
            ("5e0", "5"),
            ("0.0000000001", "1n"),
            ("1E", "1E"),
            ("99E", "9223372036854775807"),
            ("1e50", "9223372036854775807"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "Gi", "1gi", "1 Gi", "1.2.3", "--1", "1e", "1ee3", "a", "1KiB", "٣"]
        {
            assert_eq!(Quantity::parse(text), Err(InvalidQuantity), "{text}");
        }
    }
}
