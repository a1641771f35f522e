//! Sizes with units as CIM writes them, such as "byte * 2^30" (DMTF DSP0004, programmatic units).

/// Returns how many bytes a unit is, also in the words of OVF 0.9.
pub(super) fn bytes_of(unit: &str) -> Option<u64> {
    let unit: String = unit.chars().filter(|letter| !letter.is_whitespace()).collect::<String>().to_ascii_lowercase();
    match unit.as_str() {
        "kilobytes" | "kb" => return Some(1 << 10),
        "megabytes" | "mb" => return Some(1 << 20),
        "gigabytes" | "gb" => return Some(1 << 30),
        "bytes" => return Some(1),
        _ => {}
    }
    let mut factors = unit.split('*');
    if factors.next() != Some("byte") {
        return None;
    }
    factors.try_fold(1_u64, |product, factor| product.checked_mul(power(factor)?))
}

fn power(factor: &str) -> Option<u64> {
    match factor.split_once('^') {
        Some((base, exponent)) => base.parse::<u64>().ok()?.checked_pow(exponent.parse().ok()?),
        None => factor.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (unit, bytes) in [
            ("byte", 1),
            ("byte * 2^30", 1 << 30),
            ("byte*10^9", 1_000_000_000),
            ("Byte * 1024 * 2^10", 1 << 20),
            ("MegaBytes", 1 << 20),
        ] {
            assert_eq!(bytes_of(unit), Some(bytes), "{unit}");
        }
        for wrong in ["", "bit", "2^20", "byte * 2^64", "byte * -1", "byte * 2^", "byte * 2^30 * 2^34", "hertz * 10^6"]
        {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
    }
}
