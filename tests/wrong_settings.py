"""Values that each setting refuses. Those with MARK in them must not be told again."""

MARK = "canary-7f3a"
NO_NUMBERS = ["", MARK, f"7{MARK}", "nan", "1e400", "-7431", "9" * 5000]
NO_SECRETS = [f"two {MARK}", f"{MARK}é", f"{MARK}\t{MARK}"]
NO_URLS = [
    MARK,
    f"ftp://{MARK}",
    f"http://{MARK}:77777",
    f"http://{MARK}/#x",
    f"http://{MARK} /",
    "http:///",
    "//" + MARK,
]
NO_MODELS = [f"{MARK}?", f"../{MARK}", f"a//{MARK}", f"good,{MARK} x", MARK * 20, ",,"]
NO_SIZES = [MARK, f"32MiB {MARK}", "32Mbit", "-4097", "977", "99999999999999999MB", "1.2.3MiB"]
ID = "hnvcppgow2sc2yvdvdicu3ynonsteflxdxrehjr2ybekdc2z3iuq"
SECRET = "masa1AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9jDc0p"
OTHER_SECRET = "masa1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABmaHqt"
THIRD_SECRET = "masa1BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwdLsG-O"
CERTIFICATE = "masacert1" + "7" * 88
NO_IDS = [MARK, f"{ID[:-1]}b", ID.upper(), ID[:-1], f"{ID}a", f"{ID[:-1]}1", f"{MARK}{ID[12:]}", "é" * 52]
NO_ADDRESSES = [
    *(MARK, f"{MARK}:", f":{MARK}", f"{MARK}:0", f"{MARK}:65536", f"{MARK}:-77", f"{MARK}:4001/"),
    *(f"good:1,{MARK}", f"{MARK} x:4001", f"{MARK}_x:4001", f"-{MARK}:4001", f"{MARK}..x:4001", f"[{MARK}]:4001"),
    *(f"http://{MARK}:4001", f"{MARK}@{MARK}:4001"),
    *(f"{MARK}.0x77:4001", "127.7:4001", "0177.0.0.1:4001", "2130706433:4001", "①②⑦.0.0.1:4001", "here:４００１", ","),
    *("::7:4001", "[::7]", "[fe80::7%eth0]:4001", f"{MARK * 24}:4001"),
]
NOT_DIALLED = [
    *(f"{MARK}:{port}" for port in ("22", "80", "1023", "5432", "11434")),
    *("0.0.0.0:4001", "[::]:4001", "169.254.7.7:4001", "[fe80::7]:4001", "[::ffff:0.0.0.0]:4001", "239.1.1.1:4001"),
]
LONG_LABEL = f"{MARK * 6}.example:4001"
WRONG = {
    "HOST": [f"http://{MARK}", f"{MARK} x", f"{MARK}/", "*", f"{MARK}:8080", "a..b", MARK * 30],
    "PORT": [*NO_NUMBERS, "65536", "80.5"],
    "API_KEYS": ["", *NO_SECRETS, "short77", f"{MARK},short77", ",", " , ,"],
    "ALLOW_OPEN_API": [MARK, "2", "truee"],
    "ALLOWED_HOSTS": [f"*.{MARK}", f"{MARK}:80", f"http://{MARK}", f"good,{MARK}!", ","],
    "CORS_ORIGINS": [
        "*",
        "https://*",
        f"{MARK}",
        f"https://{MARK}/path",
        f"https://{MARK}:77777",
        f"none,{MARK}",
        "null",
        ",",
    ],
    "NODE_NAME": [f"{MARK}\n{MARK}", f"{MARK}\x1b[0m", MARK * 6],
    "MASA_DIR": [f"~{MARK}/x", f"{MARK}\0"],
    "LLM_CHAT_URL": [*NO_URLS, f"off,http://{MARK}", f"eliza,{MARK}", f"127.0.0.1:11434/{MARK}", ","],
    "LLM_PARALLEL": [*NO_NUMBERS, "0", "1.5"],
    "LLM_CF_URL": [*NO_URLS, f"http://user:{MARK}@a", f"http://a,http://{MARK} "],
    "LLM_CF_TOKEN": NO_SECRETS,
    "LLM_CF_GATEWAY_TOKEN": NO_SECRETS,
    "LLM_CF_MODELS": NO_MODELS,
    "PROVIDERS": [MARK, f"openai,{MARK}", "openai groq", ","],
    **{f"{name}_API_KEY": NO_SECRETS for name in ("OPENAI", "GROQ", "DEEPSEEK", "ANTHROPIC")},
    **{f"LLM_{name}_URL": NO_URLS for name in ("OPENAI", "GROQ", "DEEPSEEK", "ANTHROPIC")},
    **{f"LLM_{name}_MODELS": NO_MODELS for name in ("OPENAI", "GROQ", "DEEPSEEK", "ANTHROPIC")},
    "LLM_TIMEOUT": [*NO_NUMBERS, "0", "inf", "86401"],
    "MAX_BODY_BYTES": NO_SIZES,
    "MAX_BODY_MEMORY": NO_SIZES,
    "MAX_CONNECTIONS": [*NO_NUMBERS, "0"],
    "MAX_CONNECTIONS_PER_IP": NO_NUMBERS,
    "MAX_INFLIGHT": [*NO_NUMBERS, "0"],
    "QUEUE_SIZE": NO_NUMBERS,
    "QUEUE_TIMEOUT": [*NO_NUMBERS, "inf", "86401"],
    "PEER_HOST": [f"http://{MARK}", f"{MARK}:4001", "*", f"{MARK}/24"],
    "PEER_PORT": [*NO_NUMBERS, "65536", "40.5"],
    "PEER_ADVERTISE": [
        *(*NO_ADDRESSES, *NOT_DIALLED, LONG_LABEL),
        ",".join(f"{MARK}{n}.example:4001" for n in range(5)),
    ],
    "PEER_ALLOW_CIDRS": [
        *(MARK, f"10.0.0.0/8,{MARK}", f"10.0.0.0/{MARK}", "10.1.2.3/8", "10.0.0.0/33", "10/8", "0x0a000000/8", ","),
        *("fd00::7/8", "fd00::%eth7/64", "169.254.0.0/16", "169.254.169.254", "fe80::/10"),
    ],
    "BOOTNODES": [
        *(*NO_ADDRESSES, LONG_LABEL, f"{ID}@{MARK}", f"{ID}@{ID}@{MARK}:1"),
        *(f"{one}@{MARK}:4001" for one in (*NO_IDS, "")),
    ],
    "MDNS": [MARK, "2", "truee"],
    "MODE": [MARK, "clients", "production"],
    "NETWORK_SECRET": [
        *(MARK, ",", f"masa1{MARK * 4}", f"{SECRET},{MARK}", f"{SECRET} {MARK}", f"{SECRET}{MARK}", "masa1x77"),
        *(SECRET[:-1], SECRET.swapcase(), f"{SECRET}=", "\udcff77", f"{SECRET},{SECRET}"),
        f"{SECRET},{OTHER_SECRET},{THIRD_SECRET}",
    ],
    "NETWORK_ID": [*NO_IDS, f"{ID},{ID}"],
    "STAKE_CERTIFICATE": [
        *(MARK, "masacert1x77", f"masacert1{MARK * 7}", f"masacert1{MARK * 57}", SECRET, f"{CERTIFICATE} {MARK}"),
        *(CERTIFICATE[:-1] + "B", CERTIFICATE + "=", CERTIFICATE + "A", CERTIFICATE[:60]),
    ],
    "PEER_ALLOW": [*NO_IDS, f"{ID},{MARK}", f"{ID} {ID}", ","],
    "PEER_DENY": [*NO_IDS, f"{ID},{MARK}", f"{ID}@{MARK}:4001", ","],
    "PEER_ASK": [MARK, "always", "true", "missing,busy", f"busy {MARK}"],
    "PEER_SERVE": [
        *(",", MARK, "ollama2", f"ollama,{MARK}", f"{MARK}:qwen3", "all:qwen3", "none:qwen3", "ollama qwen3"),
        *("all,none", "none,ollama", "all,eliza", "ollama:", f"ollama:{MARK} x", f"ollama:[{MARK}]", f"ollama:{MARK}é"),
        *(f"ollama:{MARK * 20}", f"ollama:{MARK}?!", ":llama3"),
    ],
    "PEER_MAX_INFLIGHT": [*NO_NUMBERS, "0", "1.5"],
    "RACE_WIDTH": [*NO_NUMBERS, "0", "1.5", "1001", "88888", "many", f"all,{MARK}", "٨"],
    "RACE_DELAY": [*NO_NUMBERS, "0", "inf", "86401", "auto 1"],
    "RACE_TIMEOUT": [*NO_NUMBERS, "0", "inf", "86401"],
    "RACE_PATIENCE": [*NO_NUMBERS, "inf", "86401"],
    "LOG_LEVEL": [MARK, "verbose"],
    "LOG_FORMAT": [MARK, "jsonl"],
}
ALL_PROVIDERS = {"PROVIDERS": "openai,groq,deepseek,anthropic"} | {
    f"{name}_API_KEY": "a-key" for name in ("OPENAI", "GROQ", "DEEPSEEK", "ANTHROPIC")
}
