"""What a configuration says of the snapshots of a RIB."""

from __future__ import annotations

from flowray.rib.rib import Rib
from flowray.rib.roa import load_roas
from flowray.rib.snapshot import Publisher
from flowray.settings.model import Settings


def publisher_of(rib: Rib, epoch: str, settings: Settings) -> Publisher:
    """A publisher of a RIB as the configuration has it. Raises ConfigError for a file of ROAs that
    cannot be used.
    """
    publisher = Publisher(rib, epoch, settings.routes.join.policy_views)
    if settings.routes.roas is not None:
        bgp = settings.listen.bgp
        publisher.validate_with(load_roas(settings.routes.roas), 0 if bgp is None else bgp.local_as)
    return publisher
