"""Every setting once: name, type, default, and what it means to the operator."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, SecretStr

from config.kinds import (
    DAY,
    LOCAL_ORIGINS,
    ApiKeys,
    Bytes,
    ChatPlaces,
    Folder,
    Host,
    HostNames,
    Models,
    NodeName,
    Origins,
    Provider,
    Secret,
    Url,
    home_folder,
    lower,
    machine_name,
    once,
    split,
)
from config.network_kinds import (
    AddressRanges,
    Advertised,
    Bootnodes,
    Certificate,
    Mode,
    NetworkId,
    NetworkSecret,
    NodeIds,
    RaceDelay,
    RaceWidth,
    Served,
)

MIB = 1024 * 1024


@dataclass(frozen=True)
class Shown:
    """How people are told a default that is found out, or too long to repeat."""

    text: str


class Settings(BaseModel):
    """What the operator said. A field's name in capitals is the setting's name."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)

    host: Host = Field(
        default="127.0.0.1",
        description="Address of the client API; one that other machines reach needs API_KEYS, or ALLOW_OPEN_API=true.",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port of the client API; 0 picks a free one.")
    api_keys: ApiKeys = Field(
        default=(),
        description="Comma list of keys of at least 8 characters; when set, calls need one of them "
        "as `Authorization: Bearer` or `x-api-key`.",
    )
    allow_open_api: bool = Field(
        default=False, description="`true` lets HOST be reached by other machines without API_KEYS: anybody can call."
    )
    allowed_hosts: HostNames = Field(
        default=(),
        description="Comma list of further Host names that are answered while no API_KEYS are set; "
        "localhost, IP addresses, HOST and the machine's name always are.",
        examples=["node.example"],
    )
    cors_origins: Annotated[Origins, Shown("local")] = Field(
        default=LOCAL_ORIGINS,
        description="Comma list of origins that may call from a browser, as scheme://host, with :port or :* when it "
        "has one; unset: localhost and 127.0.0.1 with any port, app://, tauri://, vscode-webview:// and "
        "vscode-file://; `none`: no origin.",
        examples=["https://chat.example"],
    )
    node_name: Annotated[NodeName, Shown("host name")] = Field(
        default_factory=machine_name,
        description="How people are told this node, beside 6 characters of its id; up to 64 printable characters.",
        examples=["attic"],
    )
    masa_dir: Annotated[Folder, Shown("~/.masa")] = Field(
        default_factory=home_folder,
        validate_default=True,
        description="Folder of the node's key, certificates and state; one running node per folder.",
        examples=["/var/lib/masa"],
    )

    llm_chat_url: Annotated[ChatPlaces, Shown("found")] = Field(
        default=(),
        description="Own model servers by comma, each a base URL or a full chat URL; unset: Ollama at "
        "http://127.0.0.1:11434 is looked for and used while it answers; `off`: never looks; "
        "`eliza`: the built-in program.",
        examples=["http://127.0.0.1:11434"],
    )
    llm_parallel: int = Field(
        default=1, ge=1, description="Requests that one own server does at once, as its OLLAMA_NUM_PARALLEL says."
    )
    llm_cf_url: Url | None = Field(
        default=None,
        description="Cloudflare: a base that ends in workers-ai/ or ai/run/, or the URL of an own Worker.",
        examples=["https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY/workers-ai/"],
    )
    llm_cf_token: Secret | None = Field(default=None, description="Cloudflare's API token.")
    llm_cf_gateway_token: Secret | None = Field(default=None, description="Token of Cloudflare's AI Gateway.")
    llm_cf_models: Models = Field(
        default=(),
        description="Comma list of the models to offer from Cloudflare.",
        examples=["@cf/meta/llama-3.1-8b-instruct"],
    )
    providers: Annotated[
        tuple[Annotated[Provider, BeforeValidator(lower)], ...], BeforeValidator(split), AfterValidator(once)
    ] = Field(
        default=(),
        description="Comma list of the paid providers to use: openai, groq, deepseek, anthropic; "
        "a key alone switches nothing on.",
        examples=["openai"],
    )
    openai_api_key: Secret | None = Field(default=None, description="Key for OpenAI.")
    llm_openai_url: Url | None = Field(
        default=None, description="Base URL for OpenAI, when it is not its own.", examples=["https://openai.example"]
    )
    llm_openai_models: Models = Field(default=(), description="Comma list of the models to offer from OpenAI.")
    groq_api_key: Secret | None = Field(default=None, description="Key for Groq.")
    llm_groq_url: Url | None = Field(
        default=None, description="Base URL for Groq, when it is not its own.", examples=["https://groq.example"]
    )
    llm_groq_models: Models = Field(default=(), description="Comma list of the models to offer from Groq.")
    deepseek_api_key: Secret | None = Field(default=None, description="Key for DeepSeek.")
    llm_deepseek_url: Url | None = Field(
        default=None,
        description="Base URL for DeepSeek, when it is not its own.",
        examples=["https://deepseek.example"],
    )
    llm_deepseek_models: Models = Field(default=(), description="Comma list of the models to offer from DeepSeek.")
    anthropic_api_key: Secret | None = Field(default=None, description="Key for Anthropic.")
    llm_anthropic_url: Url | None = Field(
        default=None,
        description="Base URL for Anthropic, when it is not its own.",
        examples=["https://anthropic.example"],
    )
    llm_anthropic_models: Models = Field(default=(), description="Comma list of the models to offer from Anthropic.")
    llm_timeout: float = Field(
        default=300.0,
        gt=0,
        le=DAY,
        allow_inf_nan=False,
        description="Seconds an own upstream may be silent, before the first byte and between bytes.",
    )

    max_body_bytes: Bytes = Field(
        default=ByteSize(32 * MIB), ge=1024, description="Largest body of one request, as a number or as in 32MiB."
    )
    max_body_memory: Bytes = Field(
        default=ByteSize(512 * MIB),
        ge=1024,
        description="All bodies held at once; what is over it is answered 503; at least MAX_BODY_BYTES.",
    )
    max_connections: int = Field(default=4096, ge=1, description="Open connections per listener.")
    max_connections_per_ip: int = Field(
        default=300, ge=0, description="Open connections of one address, loopback excepted; 0 switches the limit off."
    )
    max_inflight: int = Field(default=1024, ge=1, description="Requests of own callers that are answered at once.")
    queue_size: int = Field(default=30, ge=0, description="Places in the queue for callers that must wait.")
    queue_timeout: float = Field(
        default=10.0, ge=0, le=DAY, allow_inf_nan=False, description="Seconds a caller may wait in the queue."
    )

    peer_host: Host = Field(
        default="0.0.0.0",  # noqa: S104 - every request but ping is signed by a member
        description="Address of the peer API, which opens once the node has a network: by `invite`, `join`, "
        "NETWORK_SECRET or NETWORK_ID.",
    )
    peer_port: int = Field(
        default=4001, ge=0, le=65535, description="Port of the peer API; 0 picks a free one once and keeps it."
    )
    peer_advertise: Annotated[Advertised, Shown("found")] = Field(
        default=(),
        description="Comma list of up to 4 addresses at which peers should dial this node, the best first, "
        "as host:port.",
        examples=["node.example:4001"],
    )
    peer_allow_cidrs: Annotated[AddressRanges | None, Shown("by kind of network")] = Field(
        default=None,
        description="Comma list of address ranges that may be dialled besides global addresses and BOOTNODES; "
        "unset: private ones, loopback and 100.64.0.0/10 where the members share a secret, else none.",
        examples=["10.0.0.0/8"],
    )
    bootnodes: Bootnodes = Field(
        default=(),
        description="Comma list of nodes to join through, as host:port, or as node-id@host:port where only the node "
        "with that key will do.",
        examples=["node.example:4001"],
    )
    mdns: bool = Field(
        default=True,
        description="Whether the node finds others on its LAN by mDNS, and is found, once it has a network.",
    )
    mode: Mode = Field(
        default="node", description="`node`, or `client`, which asks peers but is never dialled and offers no model."
    )
    network_secret: NetworkSecret | None = Field(
        default=None,
        description="Secret that makes machines of one owner a network: the first 53 characters of what "
        "`masa-node invite` prints; while it is rotated two by comma, the new one first.",
    )
    network_id: NetworkId | None = Field(
        default=None,
        description="Id of a network of several owners, whose members hold certificates of its authority.",
    )
    stake_certificate: Certificate | None = Field(
        default=None,
        description="This node's certificate of that authority, as `stake issue` printed it; "
        "the file of STAKE_CERTIFICATE_FILE is read again when it changes.",
    )
    peer_allow: NodeIds = Field(
        default=(), description="Comma list of node ids; when set, this node deals with no others."
    )
    peer_deny: NodeIds = Field(
        default=(), description="Comma list of node ids that this node does not deal with, whatever their stake."
    )
    peer_ask: Annotated[
        Literal["missing", "busy", "off"] | None, BeforeValidator(lower), Shown("by kind of network")
    ] = Field(
        default=None,
        description="When own callers' prompts may go to peers: `missing` (no own upstream has the model), `busy` "
        "(also while it is full or down) or `off`; a request's `X-Masa-Ask` may narrow it; unset: `busy` where the "
        "members share a secret, else `missing`.",
        examples=["busy"],
    )
    peer_serve: Served = Field(
        default=("ollama",),
        description="Comma list of what peers may use: `ollama` (own model servers, and eliza where LLM_CHAT_URL names "
        "it), `eliza`, `cloudflare` or a provider, alone or with a pattern of model names as in `ollama:qwen3*`; or "
        "`all`, or `none`; what a server relays to a cloud only by its whole name, or by `all`.",
    )
    peer_max_inflight: Annotated[int | None, Shown("LLM_PARALLEL")] = Field(
        default=None,
        ge=1,
        description="Requests of peers that one upstream does at once; one whose answer has not begun gives way to "
        "an own caller.",
        examples=["2"],
    )
    race_width: RaceWidth = Field(
        default=8,
        description="Peers asked at the same moment, of which at most 2 for a request that does not stream; `1`: one "
        "after another; `all`: everyone who has the model, whatever the request.",
    )
    race_delay: Annotated[RaceDelay, Shown("auto")] = Field(
        default=None,
        description="Seconds until more peers are asked, doubling each time; `auto`: twice the usual time to the "
        "first word of that model, from 0.3 to 5.",
        examples=["0.5"],
    )
    race_timeout: float = Field(
        default=30.0,
        gt=0,
        le=DAY,
        allow_inf_nan=False,
        description="Seconds without a sign of life from any peer asked, then the answer is 504; or from the one that "
        "answers, then it is cut.",
    )
    race_patience: float = Field(
        default=270.0,
        ge=0,
        le=DAY,
        allow_inf_nan=False,
        description="Seconds more while a peer proves that the request is queued, that its model loads, or that it "
        "reads a long prompt or writes an answer that does not stream; 0: none, whatever the reason.",
    )

    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)] = Field(
        default="info", description="How much is logged: debug, info, warning or error; never prompts or answers."
    )
    log_format: Annotated[
        Literal["pretty", "json"] | None, BeforeValidator(lower), Shown("pretty on a terminal, else json")
    ] = Field(default=None, description="`pretty` for people or `json` for programs.", examples=["json"])


def setting_names() -> dict[str, str]:
    """Setting name → field name."""
    return {field.upper(): field for field in Settings.model_fields}


def secret_names() -> frozenset[str]:
    """The settings that may also be read from the file that NAME_FILE names."""
    return frozenset(
        name for name, field in setting_names().items() if _holds_secret(Settings.model_fields[field].annotation)
    )


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(part) for part in get_args(annotation))
