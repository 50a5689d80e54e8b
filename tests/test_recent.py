"""What is worked out of texts is kept for a while."""

from __future__ import annotations

from mlx_tools_server.recent import Recent


def test_last_used_stay() -> None:
    """Of more than there is room for, what was used longest ago goes."""
    recent: Recent[int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)

    assert (recent.get("a"), recent.get("b"), recent.get("c")) == (1, None, 3)
    assert len(recent) == 2


def test_any_text() -> None:
    """Texts that have no UTF-8 form are told apart too, and a value is replaced."""
    recent: Recent[str] = Recent(3)
    recent.put("\ud800", "high")
    recent.put("\udc00", "low")
    recent.put("\udc00", "lower")

    assert (recent.get("\ud800"), recent.get("\udc00")) == ("high", "lower")
