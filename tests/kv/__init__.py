"""Tests of the KV cache, without a model: payloads are bytes."""
