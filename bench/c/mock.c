// A mock model server: an Ollama and an OpenAI server in one, fast enough not to be what is measured.
// One thread, epoll, no dependencies. `mock` listens on a free port of 127.0.0.1 and prints its number.
//
//   POST /api/chat, /v1/chat/completions      a whole reply, or a stream when the body says "stream": true
//   GET  /api/version, /api/tags, /api/ps, /v1/models     one model, `bench`
//   GET  /_cfg?delay=MS&chunks=N&interval=MS&reply=BYTES&check=0|1     sets what is named
//   GET  /_stat[?reset=1]                     counters
//
// delay: before a reply; chunks and interval: of a stream; reply: bytes of text in a whole reply.
// Each chunk carries "@<monotonic ns, 19 digits>#<sequence, 6 digits>;": a reader on this machine can tell how long
// it was on its way. With check=1 the clock gives way to a hash of the request body, in whole replies too: two
// replies are then the same bytes exactly when the two questions were.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

typedef long long i64;
enum { READ_SIZE = 64 << 10, LARGEST_BODY = 64 << 20, EVENTS = 512 };
enum dialect { OLLAMA, OPENAI };

struct buffer { char *data; size_t start, end, room; };  // what counts is data[start..end)
struct conn {
    int fd, watches_out, dead;
    struct buffer in, out;
    int busy, stream;                                    // a reply is on its way; it is a stream
    enum dialect dialect;
    uint64_t hash;                                       // of the request body, when cfg.check
    i64 seq, chunks, due;                                // next chunk, how many, when (ns)
    int timer;                                           // place in the heap, -1: none
};

static struct { i64 delay, chunks, interval, reply, check; } cfg = {0, 50, 20, 200, 0};
static struct { i64 connections, replies, chunks, abandoned, unknown; } count;
static int poller;
static struct buffer text;                               // of a whole reply

#define LINE \
    "{\"model\":\"bench\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":"
#define DONE \
    "},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":1000,\"prompt_eval_count\":12,\"eval_count\":34}"
#define OBJECT(kind) \
    "{\"id\":\"chatcmpl-1\",\"object\":\"" kind "\",\"created\":1,\"model\":\"bench\",\"choices\":[{\"index\":0,"
#define PIECE "data: " OBJECT("chat.completion.chunk") "\"delta\":"
static const char *const TYPE[] = {"application/x-ndjson", "text/event-stream"};
static const char *const WHOLE[] = {
    LINE "\"%.*s\"" DONE,
    OBJECT("chat.completion") "\"message\":{\"role\":\"assistant\",\"content\":\"%.*s\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":34,\"total_tokens\":46}}"};
static const char *const CHUNK[] = {
    LINE "\"@%019lld#%06lld; word\"},\"done\":false}\n",
    PIECE "{\"content\":\"@%019lld#%06lld; word\"},\"finish_reason\":null}]}\n\n"};
static const char *const LAST[] = {
    LINE "\"\"" DONE "\n",
    PIECE "{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"};
#define MODEL "\"name\":\"bench\",\"model\":\"bench\",\"size\":1,\"digest\":\"" DIGEST "\""
#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
static const char *const PAGES[][2] = {
    {"/api/version", "{\"version\":\"0.13.0\"}"},
    {"/api/tags", "{\"models\":[{" MODEL ",\"modified_at\":\"2026-01-01T00:00:00Z\"}]}"},
    {"/api/ps", "{\"models\":[{" MODEL ",\"expires_at\":\"2099-01-01T00:00:00Z\",\"context_length\":4096}]}"},
    {"/v1/models", "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000}]}"}};

static i64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static char *reserve(struct buffer *b, size_t n) {
    if (b->end + n > b->room) {
        if (b->start) memmove(b->data, b->data + b->start, b->end - b->start);
        b->end -= b->start, b->start = 0;
        if (b->end + n > b->room) b->data = realloc(b->data, b->room = (b->end + n) * 2);
    }
    return b->data + b->end;
}

// ---- timers: a binary heap of connections, soonest first
static struct conn **heap;
static int heap_size, heap_room;

static void place(int i, struct conn *c) { heap[i] = c, c->timer = i; }

static void settle(int i) {
    struct conn *c = heap[i];
    for (; i && heap[(i - 1) / 2]->due > c->due; i = (i - 1) / 2) place(i, heap[(i - 1) / 2]);
    for (int k; (k = 2 * i + 1) < heap_size; i = k) {
        if (k + 1 < heap_size && heap[k + 1]->due < heap[k]->due) k++;
        if (heap[k]->due >= c->due) break;
        place(i, heap[k]);
    }
    place(i, c);
}

static void wake_at(struct conn *c, i64 due) {
    c->due = due;
    if (heap_size == heap_room) heap = realloc(heap, (heap_room = heap_room * 2 + 64) * sizeof *heap);
    place(heap_size++, c);
    settle(c->timer);
}

static void forget_timer(struct conn *c) {
    int i = c->timer;
    c->timer = -1;
    if (i < 0 || i == --heap_size) return;
    place(i, heap[heap_size]);
    settle(i);
}

// ---- writing
static void watch(struct conn *c, int out) {
    if (c->watches_out == out) return;
    c->watches_out = out;
    struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(struct conn *c) {
    struct buffer *b = &c->out;
    while (!c->dead && b->start < b->end) {
        ssize_t n = send(c->fd, b->data + b->start, b->end - b->start, MSG_NOSIGNAL);
        if (n > 0) b->start += n;
        else if (errno == EAGAIN) break;
        else c->dead = 1;
    }
    if (b->start == b->end) b->start = b->end = 0;
    if (!c->dead) watch(c, b->end > 0);
}

static void say(struct conn *c, int status, const char *type, const char *body, size_t n) {
    struct buffer *b = &c->out;
    b->end += sprintf(reserve(b, n + 256), "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status,
                      status == 200 ? "OK" : "Not Found", type, n);
    memcpy(b->data + b->end, body, n);
    b->end += n;
    flush(c);
}

static void say_chunk(struct buffer *b, const char *data, int n) {
    b->end += sprintf(reserve(b, n + 32), "%x\r\n%.*s\r\n", n, n, data);
}

// ---- replies
static void reply_whole(struct conn *c) {
    static struct buffer body;  // always empty: only its room is used
    char digest[32];
    int n = sprintf(digest, "%016llx", (unsigned long long)c->hash), size = cfg.check ? n : (int)text.end;
    n = sprintf(reserve(&body, size + 1024), WHOLE[c->dialect], size, cfg.check ? digest : text.data);
    c->busy = 0, count.replies++;
    say(c, 200, "application/json", body.data, n);
}

static void reply_chunk(struct conn *c) {
    char data[1024];
    struct buffer *b = &c->out;
    const char *head = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n";
    if (!c->seq) b->end += sprintf(reserve(b, 256), head, TYPE[c->dialect]);
    i64 stamp = cfg.check ? (i64)(c->hash >> 2) : now_ns();
    say_chunk(b, data, sprintf(data, CHUNK[c->dialect], stamp, c->seq++));
    count.chunks++;
    if (c->seq >= c->chunks) {
        say_chunk(b, LAST[c->dialect], strlen(LAST[c->dialect]));
        b->end += sprintf(reserve(b, 8), "0\r\n\r\n");
        c->busy = 0, count.replies++;
    } else wake_at(c, c->due + cfg.interval * 1000000);
    flush(c);
}

static void reply(struct conn *c) { c->stream ? reply_chunk(c) : reply_whole(c); }

static void chat(struct conn *c, enum dialect dialect, const char *body, size_t n) {
    size_t look = n < 512 ? n : 512;  // the field stands before or after the messages; a long prompt need not be read
    const char *end = body + n - look;
    c->stream = memmem(body, look, "\"stream\":true", 13) || memmem(body, look, "\"stream\": true", 14) ||
                memmem(end, look, "\"stream\":true", 13) || memmem(end, look, "\"stream\": true", 14);
    c->dialect = dialect, c->busy = 1, c->seq = 0, c->chunks = cfg.chunks, c->hash = 14695981039346656037ULL;
    if (cfg.check)
        for (size_t i = 0; i < n; i++) c->hash = (c->hash ^ (unsigned char)body[i]) * 1099511628211ULL;  // FNV-1a
    if (cfg.delay) wake_at(c, now_ns() + cfg.delay * 1000000);
    else c->due = now_ns(), reply(c);
}

// ---- knobs and counters
static void knob(const char *query, const char *name, i64 *value) {
    const char *at = strstr(query, name);
    if (at && at[strlen(name)] == '=') *value = atoll(at + strlen(name) + 1);
}

static void write_text(void) {
    text.end = 0;
    reserve(&text, cfg.reply + 1);
    while ((i64)text.end < cfg.reply) text.data[text.end] = "the quick brown fox "[text.end % 20], text.end++;
}

static void configure(struct conn *c, const char *query) {
    knob(query, "delay", &cfg.delay), knob(query, "chunks", &cfg.chunks), knob(query, "interval", &cfg.interval);
    knob(query, "reply", &cfg.reply), knob(query, "check", &cfg.check);
    write_text();
    say(c, 200, "application/json", "{}", 2);
}

static void tell(struct conn *c, const char *query) {
    char b[256];
    int n = sprintf(b, "{\"connections\":%lld,\"replies\":%lld,\"chunks\":%lld,\"abandoned\":%lld,\"unknown\":%lld}",
                    count.connections, count.replies, count.chunks, count.abandoned, count.unknown);
    if (strstr(query, "reset=1")) memset(&count, 0, sizeof count);
    say(c, 200, "application/json", b, n);
}

// ---- requests
static void route(struct conn *c, int post, const char *target, const char *body, size_t n) {
    if (post && !strncmp(target, "/api/chat", 9)) { chat(c, OLLAMA, body, n); return; }
    if (post && !strncmp(target, "/v1/chat/completions", 20)) { chat(c, OPENAI, body, n); return; }
    if (!strncmp(target, "/_cfg", 5)) { configure(c, target); return; }
    if (!strncmp(target, "/_stat", 6)) { tell(c, target); return; }
    for (size_t i = 0; !post && i < sizeof PAGES / sizeof *PAGES; i++) {
        const char *page = PAGES[i][1];
        if (!strcmp(target, PAGES[i][0])) { say(c, 200, "application/json", page, strlen(page)); return; }
    }
    count.unknown++;
    say(c, 404, "text/plain", "404 page not found", 18);
}

// Size of the chunked body that starts at `p`, framing included, or -1 while it is not whole. Moves the data together.
static ssize_t unchunk(char *p, size_t n, size_t *size) {
    for (int moving = 0;; moving++) {  // first find out whether it is whole, then move
        size_t at = 0;
        for (*size = 0;;) {
            char *line = memmem(p + at, n - at, "\r\n", 2);
            size_t k = line ? strtoul(p + at, NULL, 16) : 0;
            if (!line || (size_t)(line + 2 - p) + k + 2 > n) return -1;
            at = line + 2 - p;
            if (moving) memmove(p + *size, p + at, k);
            *size += k, at += k + 2;
            if (!k) break;
        }
        if (moving) return at;
    }
}

// Takes one whole request from c->in; 0 when there is none.
static int take_request(struct conn *c) {
    struct buffer *b = &c->in;
    char *head = b->data + b->start, *end = b->end == b->start ? NULL : memmem(head, b->end - b->start, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;  // the head as a string; put back when the body has yet to come
    char *body = end + 4, *length = strcasestr(head, "\r\ncontent-length:"), *target = strchr(head, ' ');
    size_t have = b->data + b->end - body, n = length ? strtoul(length + 17, NULL, 10) : 0;
    ssize_t used = n <= have ? (ssize_t)n : -1;
    if (strcasestr(head, "\r\ntransfer-encoding:")) used = unchunk(body, have, &n);
    if (!target || have > LARGEST_BODY) c->dead = 1;
    if (c->dead || used < 0) { *end = '\r'; return 0; }
    b->start = body + used - b->data;
    target[1 + strcspn(target + 1, " ")] = 0;
    route(c, !strncmp(head, "POST", 4), target + 1, body, n);
    return 1;
}

static void receive(struct conn *c) {
    ssize_t n;
    do {
        n = recv(c->fd, reserve(&c->in, READ_SIZE), READ_SIZE, 0);
        if (n > 0) c->in.end += n;
        else if (n == 0 || errno != EAGAIN) c->dead = 1;  // a half-closed connection is a closed one
    } while (n == READ_SIZE);
}

// Everything that happens to a connection ends here, so nobody frees one that somebody above still holds.
static void carry_on(struct conn *c) {
    while (!c->dead && !c->busy && take_request(c)) continue;
    if (!c->dead) return;
    forget_timer(c);
    count.abandoned += c->busy;
    close(c->fd), free(c->in.data), free(c->out.data), free(c);
}

static void accept_all(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd, c->timer = -1;
        count.connections++;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_somewhere(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(fd, (void *)&a, n) || listen(fd, 4096) || getsockname(fd, (void *)&a, &n)) perror("mock"), exit(1);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

int main(void) {
    struct epoll_event events[EVENTS];
    poller = epoll_create1(0);
    write_text();
    int listener = listen_somewhere();
    for (;;) {
        i64 wait = heap_size ? heap[0]->due - now_ns() : 3600000000000LL;
        struct timespec t = {wait > 0 ? wait / 1000000000 : 0, wait > 0 ? wait % 1000000000 : 0};
        int n = epoll_pwait2(poller, events, EVENTS, &t, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c) { accept_all(listener); continue; }
            if (events[i].events & EPOLLOUT) flush(c);
            if (events[i].events & ~EPOLLOUT) receive(c);
            carry_on(c);
        }
        for (i64 now = now_ns(); heap_size && heap[0]->due <= now;) {
            struct conn *c = heap[0];
            forget_timer(c);
            reply(c);
            carry_on(c);
        }
    }
}
