"""Every inference path: its dialect, its operation, and what an absent `stream` means there. Pure."""

from peers.wire import Door

MISSION = (
    Door("/v1/api/chat", "any", "chat", streams=True),
    Door("/api/v1/chat", "any", "chat", streams=True),
)
CLOUDFLARE = Door("/api/v1/chat/cf", "any", "chat")
OLLAMA = (
    Door("/api/chat", "ollama", "chat", streams=True),
    Door("/api/generate", "ollama", "text_completion", streams=True),
    Door("/api/embed", "ollama", "embeddings"),
    Door("/api/embeddings", "ollama", "embeddings"),
    Door("/api/show", "ollama", "show"),
)
OPENAI = (
    Door("/v1/chat/completions", "openai", "chat"),
    Door("/v1/completions", "openai", "text_completion"),
    Door("/v1/embeddings", "openai", "embeddings"),
    Door("/v1/responses", "openai", "chat"),
)
ANTHROPIC = (
    Door("/v1/messages", "anthropic", "chat"),
    Door("/v1/messages/count_tokens", "anthropic", "count_tokens"),
)
DOORS = (*MISSION, CLOUDFLARE, *OLLAMA, *OPENAI, *ANTHROPIC)
BY_PATH = {door.path: door for door in DOORS}
FORWARDED = BY_PATH
"""What peers may hand on to a node: all of them, and nothing else (docs/protocol.md)."""
