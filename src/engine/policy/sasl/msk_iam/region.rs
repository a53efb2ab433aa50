//! The region of AWS that a broker is in, from its name.

/// What names of AWS end with. Those of China and of the European Sovereign Cloud are other ones.
const DOMAINS: [&str; 4] = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws"];

/// The region in a name that AWS has given, as in `b-1.shop.abc.c2.kafka.eu-west-1.amazonaws.com`
/// and `vpce-0a1b.vpce-svc-2c3d.eu-west-1.vpce.amazonaws.com`: the last part that looks like one,
/// since the parts before are those of users.
pub(super) fn of_host(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let inner = DOMAINS.iter().find_map(|domain| {
        let (inner, end) = host.split_at_checked(host.len().checked_sub(domain.len())?)?;
        end.eq_ignore_ascii_case(domain).then_some(inner)
    })?;
    inner.rsplit('.').find(|part| looks_like_one(part))
}

/// Words and a number, with hyphens between them: `us-gov-west-1`. There is no list, as new regions
/// open every year.
fn looks_like_one(part: &str) -> bool {
    let Some((words, number)) = part.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_number && words.contains('-') && words.split('-').all(is_word)
}

/// Whether a region can be part of what is signed, and of the name of a service.
pub(super) fn is_safe(region: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !region.is_empty() && region.bytes().all(fits)
}
