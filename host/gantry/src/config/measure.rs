//! Amounts as people write them: `30s`, `256MiB`.

use std::time::Duration;

/// Not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Not a time.
    #[error("not a time like `30s`, `5m` or `1h 30m`")]
    Time,
    /// Not a size.
    #[error("not a size like `64MiB`, `1GiB` or a number of bytes")]
    Bytes,
}

/// Reads a time.
pub(crate) fn duration(text: &str) -> Result<Duration, MeasureError> {
    let signed = text.parse::<jiff::SignedDuration>().map_err(|_| MeasureError::Time)?;
    Duration::try_from(signed).map_err(|_| MeasureError::Time)
}

/// Reads a size in bytes. `K`, `M` and `G` are powers of 1024, with or without `B` or `iB` after them.
pub(crate) fn bytes(text: &str) -> Result<u64, MeasureError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| MeasureError::Bytes)?;
    let unit = unit.trim().to_ascii_lowercase();
    let factor: u64 = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(MeasureError::Bytes),
    };
    number.checked_mul(factor).ok_or(MeasureError::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [("0", 0), ("7", 7), ("1k", 1024), ("64MiB", 64 << 20), ("2 GB", 2 << 30)];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5G", "1x", "99999999999999999999"] {
            assert_eq!(bytes(text), Err(MeasureError::Bytes), "{text}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "30", "-5s", "soon"] {
            assert_eq!(duration(text), Err(MeasureError::Time), "{text}");
        }
    }
}
