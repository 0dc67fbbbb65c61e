// A load generator for whole replies and for streams. One thread, epoll, no dependencies.
//
//   load PORT PATH BODYFILE [-c CONNECTIONS] [-r RAMP_MS] [-d SECONDS | -n REPLIES] [-s CHUNKS] [-t LIMIT_S]
//        [-H 'Name: value']...
//
// Each connection POSTs the body, reads the reply to its end and begins again: for SECONDS, or REPLIES times. What is
// under way then is awaited. Connections are opened over RAMP_MS. Without -s every body must equal the first one, byte
// for byte. With -s each reply must be a whole stream of mock.c: chunks #0 to #CHUNKS-1 in order, then the dialect's
// end mark, then the end of the HTTP body. Prints one line of JSON; times are in µs.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

typedef long long i64;
enum { READ_SIZE = 256 << 10, HEAD_SIZE = 16 << 10, LINE_SIZE = 4 << 10, EVENTS = 512, TOO_MANY = 1000 };
enum framing { HEAD, BY_LENGTH, BY_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };
enum outcome { MORE, WHOLE, BROKEN };

struct conn {
    int fd, connected, watches_out, keeps;
    i64 replies;                        // so far
    i64 asked_at;                       // ns
    size_t sent;                        // of the request
    enum framing framing;
    size_t left;                        // of the chunk, or of the body
    size_t size;                        // of the body so far
    i64 seq;                            // of the chunk that must come next
    int ended, wrong;                   // the end mark was seen; a chunk or a byte is not what it must be
    size_t head_size, line_size;
    char head[HEAD_SIZE], line[LINE_SIZE];
};
struct series { double *v; size_t n, room; };

static int poller, alive, ramp_ms, limit_s = 60, connections = 1;
static i64 replies_each, want_chunks = -1, stop_at;
static double seconds;
static struct sockaddr_in place = {.sin_family = AF_INET};
static char *request, *first;           // first: the body all others are compared with
static size_t request_size, first_size;
static int have_first;
static struct series whole_us, first_us, chunk_us;
static struct { i64 replies, connections, chunks, refused, status, broken, wrong; } count;
static char told[256];                  // what the first failure looked like

static i64 now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(struct series *s, double x) {
    if (s->n == s->room) s->v = realloc(s->v, (s->room = s->room * 2 + 4096) * sizeof *s->v);
    s->v[s->n++] = x;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fail(i64 *kind, const char *what, size_t n) {
    ++*kind;
    if (!*told) snprintf(told, sizeof told, "%.*s", (int)n, what);
}

// ---- one connection: open, ask, begin again
static void watch(struct conn *c, int op, int out) {
    struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    c->watches_out = out;
    epoll_ctl(poller, op, c->fd, &e);
}

static void open_conn(struct conn *c) {
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->connected = 0;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    connect(c->fd, (void *)&place, sizeof place);  // what comes of it is learnt from epoll
    watch(c, EPOLL_CTL_ADD, 1);
    count.connections++;
}

static void close_conn(struct conn *c) {
    close(c->fd);
    c->fd = -1;
}

static int send_some(struct conn *c) {
    while (c->sent < request_size) {
        ssize_t n = send(c->fd, request + c->sent, request_size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) return 0;
        c->sent += n;
    }
    int out = c->sent < request_size;
    if (out != c->watches_out) watch(c, EPOLL_CTL_MOD, out);
    return 1;
}

static int ask(struct conn *c) {
    c->sent = c->size = c->head_size = c->line_size = c->seq = c->ended = c->wrong = 0;
    c->framing = HEAD, c->keeps = 1, c->asked_at = now_ns();
    return send_some(c);
}

static void begin_again(struct conn *c, int usable) {
    int more = replies_each ? c->replies < replies_each : now_ns() < stop_at;
    if (count.refused + count.status + count.broken + count.wrong > TOO_MANY) more = 0;
    if (!usable || !more) close_conn(c);
    if (!more) alive--;
    else if (!usable) open_conn(c);
    else if (!ask(c)) fail(&count.broken, "cut while asking", 99), close_conn(c), open_conn(c);
}

// ---- what a reply says
static void read_line(struct conn *c, i64 now) {
    c->line[c->line_size] = 0;
    char *at = strchr(c->line, '@');
    if (at) {
        i64 stamp = strtoll(at + 1, &at, 10), seq = *at == '#' ? strtoll(at + 1, NULL, 10) : -1;
        if (!c->seq) note(&first_us, (now - c->asked_at) / 1e3);
        c->wrong |= seq != c->seq++ || c->ended;
        count.chunks++;
        note(&chunk_us, (now - stamp) / 1e3);
    }
    if (strstr(c->line, "\"done\":true") || !strcmp(c->line, "data: [DONE]")) c->ended = 1;
    c->line_size = 0;
}

static void read_stream(struct conn *c, const char *p, size_t n, i64 now) {
    for (const char *end = p + n; p < end;) {
        const char *newline = memchr(p, '\n', end - p);
        size_t k = (newline ? newline : end) - p, room = LINE_SIZE - 1 - c->line_size;
        memcpy(c->line + c->line_size, p, k < room ? k : room);
        c->line_size += k < room ? k : room;
        if (newline) read_line(c, now), k++;
        p += k;
    }
}

static void compare(struct conn *c, const char *p, size_t n) {
    if (have_first) {
        c->wrong |= c->size + n > first_size || memcmp(first + c->size, p, n);
    } else {  // nobody else has begun: see main()
        first = realloc(first, c->size + n);
        memcpy(first + c->size, p, n);
    }
}

static void read_body(struct conn *c, const char *p, size_t n, i64 now) {
    if (!n) return;
    if (want_chunks >= 0) read_stream(c, p, n, now);
    else compare(c, p, n);
    c->size += n;
}

static int is_right(struct conn *c) {
    if (want_chunks >= 0) return !c->wrong && c->ended && c->seq == want_chunks;
    if (!have_first) have_first = 1, first_size = c->size;
    return !c->wrong && c->size == first_size;
}

// ---- where a reply ends
static enum outcome read_head(struct conn *c) {
    char *length = strcasestr(c->head, "\r\ncontent-length:");
    if (strncmp(c->head, "HTTP/1.1", 8) || strcasestr(c->head, "\r\nconnection: close")) c->keeps = 0;
    if (strncmp(c->head + 8, " 200", 4)) return fail(&count.status, c->head, sizeof told - 1), BROKEN;
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) c->framing = CHUNK_SIZE;
    else if (length) c->framing = BY_LENGTH, c->left = strtoul(length + 17, NULL, 10);
    else c->framing = BY_CLOSE, c->keeps = 0;
    c->head_size = 0;  // from here on the room is used for the lines of the chunked framing
    return c->framing == BY_LENGTH && !c->left ? WHOLE : MORE;
}

// Takes one line of the head or of the framing into c->head; 0 while it is not whole.
static int take_until(struct conn *c, const char **p, const char *end, const char *mark) {
    size_t m = strlen(mark);
    while (*p < end && c->head_size < HEAD_SIZE - 1) {
        c->head[c->head_size++] = *(*p)++;
        if (c->head_size >= m && !memcmp(c->head + c->head_size - m, mark, m)) return c->head[c->head_size] = 0, 1;
    }
    return 0;
}

static enum outcome read_reply(struct conn *c, const char *p, size_t n, i64 now) {
    enum outcome got = MORE;
    for (const char *end = p + n; p < end && got == MORE;) {
        size_t k = end - p;
        switch (c->framing) {
        case HEAD:
            if (take_until(c, &p, end, "\r\n\r\n")) got = read_head(c);
            else if (c->head_size == HEAD_SIZE - 1) fail(&count.broken, "a head that does not end", 99), got = BROKEN;
            break;
        case CHUNK_SIZE:
            if (!take_until(c, &p, end, "\r\n")) break;
            c->left = strtoul(c->head, NULL, 16), c->head_size = 0;
            c->framing = c->left ? CHUNK_DATA : TRAILER;
            break;
        case CHUNK_END:
            if (take_until(c, &p, end, "\r\n")) c->framing = CHUNK_SIZE, c->head_size = 0;
            break;
        case TRAILER:
            if (!take_until(c, &p, end, "\r\n")) break;
            got = c->head_size == 2 ? WHOLE : MORE, c->head_size = 0;
            break;
        default:
            if (c->framing != BY_CLOSE && k > c->left) k = c->left;
            read_body(c, p, k, now);
            p += k;
            if (c->framing == BY_CLOSE || (c->left -= k)) break;
            if (c->framing == BY_LENGTH) got = WHOLE;
            else c->framing = CHUNK_END;
        }
        if (got == WHOLE && p < end) c->wrong = 1;  // bytes nobody asked for
    }
    return got;
}

// ---- events
static void finish(struct conn *c, i64 now) {
    c->replies++, count.replies++;
    note(&whole_us, (now - c->asked_at) / 1e3);
    if (c->sent < request_size || !is_right(c)) fail(&count.wrong, "not the reply that must come", 99), c->keeps = 0;
    begin_again(c, c->keeps);
}

static void give_up(struct conn *c, i64 *kind, const char *what) {
    fail(kind, what, 99);
    c->replies++;
    begin_again(c, 0);
}

static void on_connect(struct conn *c) {
    int error = 0;
    socklen_t n = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
    c->connected = 1;
    if (error || !ask(c)) give_up(c, &count.refused, strerror(error));
}

static void on_readable(struct conn *c) {
    static char buffer[READ_SIZE];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    i64 now = now_ns();
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (n == 0 && c->framing == BY_CLOSE) finish(c, now);
        else give_up(c, &count.broken, c->framing == HEAD ? "cut before the reply" : "cut in the reply");
        return;
    }
    enum outcome got = read_reply(c, buffer, n, now);
    if (got == WHOLE) finish(c, now);
    if (got == BROKEN) c->replies++, begin_again(c, 0);
}

// ---- start and end
static void print_series(const char *name, struct series *s) {
    if (s->n) qsort(s->v, s->n, sizeof *s->v, by_size);
    double at[] = {.5, .99, 1}, v[3] = {-1, -1, -1};
    for (int i = 0; i < 3 && s->n; i++) v[i] = s->v[(size_t)(at[i] * (s->n - 1) + .5)];
    printf(",\"%s_p50\":%.1f,\"%s_p99\":%.1f,\"%s_max\":%.1f", name, v[0], name, v[1], name, v[2]);
}

static void report(double wall) {
    for (char *p = told; *p; p++)
        if (*p == '"' || *p == '\\' || (unsigned char)*p < ' ') *p = ' ';
    printf("{\"replies\":%lld,\"wall_s\":%.4f,\"connections\":%lld,\"chunks\":%lld,", count.replies, wall,
           count.connections, count.chunks);
    printf("\"refused\":%lld,\"status\":%lld,\"broken\":%lld,\"wrong\":%lld,\"unfinished\":%d,\"told\":\"%s\"",
           count.refused, count.status, count.broken, count.wrong, alive, told);
    print_series("whole", &whole_us);
    if (want_chunks >= 0) print_series("first", &first_us), print_series("chunk", &chunk_us);
    printf("}\n");
}

static void read_arguments(int argc, char **argv) {
    char more[4096] = "", *body = NULL;
    for (int o; (o = getopt(argc, argv, "c:r:d:n:s:t:H:")) != -1;) {
        if (o == 'c') connections = atoi(optarg);
        else if (o == 'r') ramp_ms = atoi(optarg);
        else if (o == 'd') seconds = atof(optarg);
        else if (o == 'n') replies_each = atoll(optarg);
        else if (o == 's') want_chunks = atoll(optarg);
        else if (o == 't') limit_s = atoi(optarg);
        else if (o == 'H') snprintf(more + strlen(more), sizeof more - strlen(more), "%s\r\n", optarg);
        else exit(2);
    }
    if (argc - optind != 3 || connections < 1) fputs("load PORT PATH BODYFILE: see load.c\n", stderr), exit(2);
    size_t room = 0, size = 0;
    FILE *f = fopen(argv[optind + 2], "rb");
    if (!f || getdelim(&body, &room, EOF, f) < 0) perror(argv[optind + 2]), exit(2);
    size = ftell(f);
    request = malloc(size + sizeof more + 1024);
    const char *head = "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n%s\r\n";
    request_size = sprintf(request, head, argv[optind + 1], argv[optind], size, more);
    memcpy(request + request_size, body, size);
    request_size += size;
    place.sin_port = htons(atoi(argv[optind])), place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

int main(int argc, char **argv) {
    read_arguments(argc, argv);
    poller = epoll_create1(0);
    struct conn *all = calloc(connections, sizeof *all);
    struct epoll_event events[EVENTS];
    i64 start = now_ns(), limit = start + (i64)((limit_s + seconds) * 1e9);
    stop_at = start + (i64)(seconds * 1e9);
    alive = connections;
    for (int opened = 0; alive > 0 && now_ns() < limit;) {
        i64 pause = 20000000;
        // the first reply is awaited before anybody else asks, so that there is something to compare with
        for (; opened < connections && (!opened || have_first || want_chunks >= 0 || alive < connections); opened++) {
            pause = start + ramp_ms * 1000000LL * opened / connections - now_ns();
            if (pause > 0) break;
            open_conn(&all[opened]);
        }
        struct timespec t = {0, pause < 0 || pause > 20000000 ? 20000000 : pause};
        for (int i = 0, n = epoll_pwait2(poller, events, EVENTS, &t, NULL); i < n; i++) {
            struct conn *c = events[i].data.ptr;
            if (!c->connected) { on_connect(c); continue; }
            if (events[i].events & EPOLLOUT && !send_some(c)) give_up(c, &count.broken, "cut while asking");
            else if (events[i].events & ~EPOLLOUT) on_readable(c);
        }
    }
    report((now_ns() - start) / 1e9);
}
