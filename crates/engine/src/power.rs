//! Whether the machine runs on its battery. On Linux; elsewhere it is taken not to.

use std::path::Path;
use std::time::{Duration, Instant};

/// Asks the system now and then.
#[derive(Debug, Default)]
pub(crate) struct Power {
    asked: Option<(Instant, bool)>,
}

impl Power {
    /// As it was within the last [`PERIOD`].
    pub(crate) fn on_battery(&mut self) -> bool {
        match self.asked {
            Some((at, answer)) if at.elapsed() < PERIOD => answer,
            _ => self.asked.insert((Instant::now(), discharges(Path::new(SUPPLIES)))).1,
        }
    }
}

/// Whether a battery that powers the system discharges: `/sys/class/power_supply`, as the kernel's
/// `Documentation/ABI/testing/sysfs-class-power` describes it. Batteries of mice and headsets have the scope `Device`.
fn discharges(supplies: &Path) -> bool {
    let Ok(supplies) = std::fs::read_dir(supplies) else { return false };
    supplies.flatten().any(|supply| {
        let is = |name: &str, value: &str| {
            std::fs::read_to_string(supply.path().join(name)).is_ok_and(|text| text.trim() == value)
        };
        is("type", "Battery") && is("status", "Discharging") && !is("scope", "Device")
    })
}

const SUPPLIES: &str = "/sys/class/power_supply";
const PERIOD: Duration = Duration::from_secs(5);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_battery_of_the_machine_that_discharges_counts() {
        let folder = std::env::temp_dir().join(format!("visavis-power-{}", std::process::id()));
        let supply = |name: &str, files: &[(&str, &str)]| {
            let supply = folder.join(name);
            std::fs::create_dir_all(&supply).unwrap();
            for (file, text) in files {
                std::fs::write(supply.join(file), format!("{text}\n")).unwrap();
            }
        };
        assert!(!discharges(&folder));
        supply("AC", &[("type", "Mains"), ("online", "0")]);
        supply("mouse", &[("type", "Battery"), ("status", "Discharging"), ("scope", "Device")]);
        supply("BAT0", &[("type", "Battery"), ("status", "Charging")]);
        assert!(!discharges(&folder));
        supply("BAT0", &[("status", "Discharging")]);
        assert!(discharges(&folder));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
