//! What a look at running JSON-RPC services finds amiss, for `genkan check --live`. Read-only: a
//! connection is made to each instance, and listened to for a moment; nothing is asked.

use futures_util::future::join_all;

use super::config::Settings;
use super::connect::Certificates;
use super::knock::knock;
use crate::route::Rule;
use crate::tasks::Tasks;
use crate::upstream::Amiss;

/// Looks at all instances.
pub(super) async fn look(settings: &Settings, rows: &[&Rule], tasks: &Tasks) -> Vec<Amiss> {
    let certificates = Certificates::default();
    let known = &certificates;
    let looks = settings.places.iter().map(|place| async move {
        let looked = knock(place, settings, known, tasks).await;
        looked.map(drop).map_err(|unreachable| {
            let told = unreachable.told();
            match unreachable.mend {
                Some(_) => format!("{place}: {told} ({})", unreachable.detail),
                None => format!("{place}: {told}"),
            }
        })
    });
    let found = join_all(looks).await;
    let all_fail = !found.is_empty() && found.iter().all(Result::is_err);
    let mut amiss: Vec<Amiss> =
        found.into_iter().filter_map(Result::err).map(|what| Amiss::of_upstream(&what)).collect();
    if all_fail {
        let what = "nobody answers: no instance of the upstream can be reached: start one, or \
                    mend its URL";
        amiss.extend((0..rows.len()).map(|row| Amiss::of_row(row, what)));
    }
    amiss
}
