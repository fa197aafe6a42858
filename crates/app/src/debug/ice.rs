//! Candidates of both sides and their pairs.

use egui::Ui;
use visavis_engine::{CallSnapshot, CandidateInfo, CandidatePairState, CandidateType, PairInfo};

use super::states::Shown;
use super::table::{Column, Width, fact_at, table};
use crate::format::{self, UNKNOWN};
use crate::theme::{self, Tokens};
use crate::widgets;

/// Draws the tab.
pub(super) fn show(ui: &mut Ui, s: &CallSnapshot) {
    pairs(ui, s);
    nominations(ui, s);
    candidates(ui, "LOCAL CANDIDATES", &s.local_candidates);
    candidates(ui, "REMOTE CANDIDATES", &s.remote_candidates);
}

/// The pair that media runs over, for the overview.
pub(super) fn selected_pair(ui: &mut Ui, s: &CallSnapshot) {
    let t = Tokens::of(ui.ctx());
    widgets::card(ui, "SELECTED PAIR", |ui| {
        let Some(pair) = format::selected(s) else {
            ui.label(theme::small("None yet.").color(t.muted));
            return;
        };
        let mut fact = |name, value: &str, colour, explain| {
            fact_at(ui, 76.0, name, value, colour, explain);
        };
        fact("Local", &format::candidate(&pair.local), None, KIND);
        fact("Remote", &format::candidate(&pair.remote), None, KIND);
        let rtt = "currentRoundTripTime: of the newest STUN check, RFC 8445 §7.2.5.2.";
        fact("Round trip", &format::ms_or_unknown(pair.rtt), Some(t.accent), rtt);
        let consent =
            "Since the last answer to a check; after 28 s nothing may be sent any more, RFC 7675.";
        let age = s.consent_age.map(|age| format!("answered {:.1} s ago", age.as_secs_f64()));
        fact("Consent", age.as_deref().unwrap_or(UNKNOWN), None, consent);
        fact("Sent", &format::bytes(pair.bytes_sent), None, "bytesSent of the pair.");
        fact("Received", &format::bytes(pair.bytes_received), None, "bytesReceived of the pair.");
    });
}

fn pairs(ui: &mut Ui, s: &CallSnapshot) {
    let t = Tokens::of(ui.ctx());
    widgets::card(ui, "CANDIDATE PAIRS", |ui| {
        if s.pairs.is_empty() {
            ui.label(
                theme::small("None yet: a pair needs a candidate of each side.").color(t.muted),
            );
            return;
        }
        let columns = [
            Column { title: "", width: Width::Words(10.0), explain: "" },
            Column { title: "local, remote", width: Width::Rest, explain: KIND },
            Column {
                title: "state",
                width: Width::Words(86.0),
                explain: "State of the connectivity check, RFC 8445 §6.1.2.6; nominated is a \
                          pair that was selected.",
            },
            Column { title: "rtt", width: Width::Figures(52.0), explain: "currentRoundTripTime" },
            Column {
                title: "checks",
                width: Width::Figures(52.0),
                explain: "responsesReceived / requestsSent",
            },
            Column { title: "bytes", width: Width::Figures(58.0), explain: "sent and received" },
        ];
        let mut sorted: Vec<&PairInfo> = s.pairs.iter().collect();
        let succeeded = CandidatePairState::Succeeded;
        sorted.sort_by_key(|p| (!p.selected, !p.nominated, p.state != succeeded));
        let rows: Vec<_> = sorted
            .into_iter()
            .map(|p| {
                let state = if p.nominated && p.state == succeeded {
                    Shown::NOMINATED
                } else {
                    p.state.into()
                };
                vec![
                    (if p.selected { "●" } else { "" }.to_owned(), Some(t.accent)),
                    (
                        format!(
                            "{}\n{}\n{}",
                            format::candidate(&p.local),
                            format::candidate(&p.remote),
                            details(p)
                        ),
                        None,
                    ),
                    (state.word.to_owned(), Some(state.colour(&t))),
                    (p.rtt.map_or_else(|| UNKNOWN.into(), format::ms), None),
                    (format!("{}/{}", p.responses_received, p.requests_sent), None),
                    (format::bytes(p.bytes_sent + p.bytes_received), None),
                ]
            })
            .collect();
        table(ui, &columns, &rows);
    });
}

/// What kind of way a pair is, what its priority is made of, and what its checks met.
fn details(p: &PairInfo) -> String {
    let (controlling, controlled) = (p.controlling_priority, p.controlled_priority);
    let mut details = p.path.to_owned();
    if p.requests_lost > 0 {
        details += &format!(" · {} unanswered", p.requests_lost);
    }
    if let Some(failure) = &p.last_failure {
        details += &format!(" · {failure}");
    }
    details + &format!("\npriority {controlling} / {controlled}")
}

/// Which pairs were selected, the newest first.
fn nominations(ui: &mut Ui, s: &CallSnapshot) {
    let t = Tokens::of(ui.ctx());
    widgets::card(ui, &format!("SELECTIONS · {}", s.nominations.len()), |ui| {
        if s.nominations.is_empty() {
            ui.label(theme::small("None yet.").color(t.muted));
            return;
        }
        let columns = [
            Column { title: "ago", width: Width::Figures(58.0), explain: "When it was selected." },
            Column { title: "local, remote", width: Width::Rest, explain: "" },
            Column { title: "why", width: Width::Rest, explain: "What made it the selected pair." },
        ];
        let rows: Vec<_> = s
            .nominations
            .iter()
            .rev()
            .map(|n| {
                vec![
                    (format!("{:.1} s", n.age.as_secs_f64()), None),
                    (format!("{}\n{}", n.local, n.remote), None),
                    (format!("{}\n{}", n.path, n.reason), None),
                ]
            })
            .collect();
        table(ui, &columns, &rows);
    });
}

fn candidates(ui: &mut Ui, title: &str, list: &[CandidateInfo]) {
    let t = Tokens::of(ui.ctx());
    widgets::card(ui, &format!("{title} · {}", list.len()), |ui| {
        if list.is_empty() {
            ui.label(theme::small("None yet.").color(t.muted));
            return;
        }
        let columns = [
            Column { title: "type", width: Width::Words(48.0), explain: KIND },
            Column {
                title: "protocol",
                width: Width::Words(60.0),
                explain: "Transport, RFC 8445 and RFC 6544 (TCP).",
            },
            Column { title: "address", width: Width::Rest, explain: "" },
            Column {
                title: "priority",
                width: Width::Figures(90.0),
                explain: "Higher is tried first, RFC 8445 §5.1.2.",
            },
        ];
        let rows: Vec<_> = list
            .iter()
            .map(|c| {
                let relayed = c.kind == CandidateType::Relay;
                vec![
                    (c.kind.to_string(), Some(if relayed { t.warn } else { t.info })),
                    (c.protocol.to_string(), None),
                    (c.address.clone(), None),
                    (c.priority.map_or_else(String::new, |p| p.to_string()), None),
                ]
            })
            .collect();
        table(ui, &columns, &rows);
    });
}

const KIND: &str = "host: an address of the machine itself. srflx: as a STUN server sees it. prflx: \
                    learned from a check. relay: of a TURN server. RFC 8445 §4.";
