"""The units of wow, one test module a module: C{trial wow}."""

from hypothesis import HealthCheck, settings

# A busy machine must not fail a property that holds, and a conformance suite
# is meant to run on several classes.
settings.register_profile(
    "wow",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
    print_blob=True,
)
settings.load_profile("wow")
