"""What is one worker's of what the configuration gives to all of them."""

from __future__ import annotations

from wow.config import Collection, Http, Limits, Quotes, Settings


def share(settings: Settings, workers: int) -> Settings:
    """
    The settings of one worker of several. Limits of clients and networks stay
    what they are, since a network meets a single worker.
    """
    return settings.model_copy(
        update={
            "limits": _limits(settings.limits, workers),
            "quotes": _quotes(settings.quotes, workers),
        }
    )


def _limits(limits: Limits, workers: int) -> Limits:
    totals = ("connections", "half_begun", "clients")
    shares = {name: max(1, getattr(limits, name) // workers) for name in totals}
    return limits.model_copy(update={**shares, "explained": limits.explained / workers})


def _quotes(quotes: Quotes, workers: int) -> Quotes:
    # Each asks for itself, and an API is to be asked no more often for that.
    sources = [_source(source, workers) for source in quotes.sources]
    return quotes.model_copy(update={"sources": sources})


def _source(source: Http | Collection, workers: int) -> Http | Collection:
    if isinstance(source, Collection):
        return source
    return source.model_copy(update={"interval": source.interval * workers})
