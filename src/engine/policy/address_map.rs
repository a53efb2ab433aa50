//! Where brokers are reached, if not where they say.

/// A broker that is about to be connected to.
///
/// ```
/// # #[cfg(feature = "embedded")] {
/// # use tidegate::{Producer, embedded::EmbeddedCluster};
/// # let cluster = EmbeddedCluster::builder().topic("orders", 1).start()?;
/// # use tidegate::BrokerPlace;
/// # let tunnel = cluster.address(1).port();
/// # cluster.advertise(1, "192.0.2.1:9092".parse()?);
/// // Brokers say that they are at 192.0.2.1, and are reached through a tunnel from here.
/// let map = move |place: &BrokerPlace<'_>| {
///     (place.host == "192.0.2.1").then(|| ("127.0.0.1".to_owned(), tunnel))
/// };
/// let servers = cluster.bootstrap_servers();
/// let producer = Producer::builder(&servers).address_map(map).build()?;
/// let at = producer.topic("orders")?.send("customer-42", "paid")?.wait()?;
/// assert_eq!(at.offset(), Some(0));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerPlace<'a> {
    /// Its id; `None` for the bootstrap servers, and for connections that ask for metadata.
    pub id: Option<i32>,
    /// The host that was configured, or that the broker advertises.
    pub host: &'a str,
    /// Its port there.
    pub port: u16,
}

impl<'a> BrokerPlace<'a> {
    /// A broker as a map sees it, for the tests of a map of your own.
    ///
    /// ```
    /// use tidegate::{AddressMap, BrokerPlace};
    ///
    /// struct Forwards;
    ///
    /// impl AddressMap for Forwards {
    ///     fn map(&self, place: &BrokerPlace<'_>) -> Option<(String, u16)> {
    ///         let port = 19_092 + u16::try_from(place.id?).ok()?;
    ///         Some(("127.0.0.1".to_owned(), port))
    ///     }
    /// }
    ///
    /// let broker = BrokerPlace::new(Some(2), "kafka-2.internal", 9092);
    /// assert_eq!(Forwards.map(&broker), Some(("127.0.0.1".to_owned(), 19_094)));
    /// assert_eq!(Forwards.map(&BrokerPlace::new(None, "kafka-2.internal", 9092)), None);
    /// ```
    #[must_use]
    pub const fn new(id: Option<i32>, host: &'a str, port: u16) -> Self {
        Self { id, host, port }
    }
}

/// Says where a broker is reached: for port forwards, tunnels and address translation, where what
/// brokers advertise cannot be reached from here.
///
/// It is asked for each connection, on an event loop: it must not wait. With TLS the certificate
/// must still be for the host that the broker advertises. Closures
/// `Fn(&BrokerPlace) -> Option<(String, u16)>` are maps too. A panic costs that attempt to connect.
///
/// ```
/// use tidegate::{BrokerPlace, Producer};
///
/// // `kubectl port-forward kafka-0 19092:9092`, and so on.
/// let forwards = |place: &BrokerPlace<'_>| {
///     let port = 19_092 + u16::try_from(place.id?).ok()?;
///     Some(("127.0.0.1".to_owned(), port))
/// };
/// let builder = Producer::builder("127.0.0.1:19092").address_map(forwards);
/// ```
pub trait AddressMap: Send + Sync {
    /// The host and port to connect to; `None` for those of `place` itself.
    fn map(&self, place: &BrokerPlace<'_>) -> Option<(String, u16)>;
}

impl<F> AddressMap for F
where
    F: Fn(&BrokerPlace<'_>) -> Option<(String, u16)> + Send + Sync,
{
    fn map(&self, place: &BrokerPlace<'_>) -> Option<(String, u16)> {
        self(place)
    }
}
