"""Where settings come from: the environment, which others write to as well, and the code of a host app."""

from __future__ import annotations

import pytest

from unstuck.app import create_app
from unstuck.errors import CannotStart
from unstuck.settings import load, source

#: What Kubernetes sets in each pod, for services named `unstuck`, `unstuck-web` and `unstuck-max`.
OF_SERVICES = {
    "UNSTUCK_SERVICE_HOST": "10.0.0.7",
    "UNSTUCK_SERVICE_PORT": "8765",
    "UNSTUCK_SERVICE_PORT_HTTP": "8765",
    "UNSTUCK_SERVICE_PORT_HTTP_METRICS": "9090",
    "UNSTUCK_PORT": "tcp://10.0.0.7:8765",
    "UNSTUCK_PORT_8765_TCP": "tcp://10.0.0.7:8765",
    "UNSTUCK_PORT_8765_TCP_PROTO": "tcp",
    "UNSTUCK_PORT_8765_TCP_PORT": "8765",
    "UNSTUCK_PORT_8765_TCP_ADDR": "10.0.0.7",
    "UNSTUCK_PORT_53_UDP": "udp://10.0.0.7:53",
    "UNSTUCK_WEB_SERVICE_HOST": "10.0.0.8",
    "UNSTUCK_WEB_PORT": "tcp://10.0.0.8:80",
    "UNSTUCK_WEB_PORT_80_TCP_ADDR": "10.0.0.8",
    "UNSTUCK_MAX_SERVICE_PORT": "80",
}


def test_what_kubernetes_sets_is_no_setting() -> None:
    assert load({}, OF_SERVICES) == load({}, {})
    assert source("port", {}, OF_SERVICES) == "default"
    assert load({}, {**OF_SERVICES, "UNSTUCK_PORT": "80"}).port == 80


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("UNSTUCK_PROT", "80", "Did you mean UNSTUCK_PORT?"),
        ("UNSTUCK_WORKER", "2", "Did you mean UNSTUCK_WORKERS?"),
        ("UNSTUCK_ALOWED_HOST", "a", "Did you mean UNSTUCK_ALLOWED_HOSTS?"),
        ("UNSTUCK_PORT", "http://10.0.0.7:8765", "must be a whole number"),
        ("UNSTUCK_DATA_PORT", "80", "no setting UNSTUCK_DATA_PORT"),
        ("UNSTUCK_XYZ", "1", "no setting UNSTUCK_XYZ. `unstuck settings`"),
    ],
)
def test_a_mistake_is_refused_with_the_nearest_name(variable: str, text: str, said: str) -> None:
    with pytest.raises(CannotStart, match=said.replace("?", r"\?")):
        load({}, {**OF_SERVICES, variable: text})


def test_a_host_app_gives_settings_by_name() -> None:
    settings = create_app(load({"port": 80, "workers": 1}, {}), workers=2, data="/jobs").state.settings
    assert (settings.port, settings.workers, settings.data) == (80, 2, "/jobs")
    with pytest.raises(CannotStart, match=r"no setting dta\. Did you mean data\?"):
        create_app(dta="/jobs")
    with pytest.raises(CannotStart, match=r"allowed_hosts is a list: give \['shop.example'\]"):
        create_app(allowed_hosts="shop.example")
