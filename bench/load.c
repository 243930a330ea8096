/* load: streaming requests to an HTTP server on 127.0.0.1, and what a client sees of the answers.
 *
 *   load port=P path=/v1/completions body=FILE n=96 c=32 [first=0] [long=FILE] [timeout=300]
 *
 * Closed loop: `c` lanes, each with one request in flight, until `n` requests are done. The first "%d" of a body
 * becomes the request's number, counted from `first`. One thread and epoll, because it shares the cores with the server
 * that it measures.
 *
 * With `long`, one more request with that body is sent as soon as all lanes are streaming; `n` does not count, the
 * lanes go on until the long request is done. What is asked then is how the others fare until its first token: their
 * pauses.
 *
 * Only events that carry text count: a first event with a role or an empty string is no first token. Tokens are those
 * that the server reports as usage, for an event may carry several. One line of JSON goes to stdout; times are
 * milliseconds unless named.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LANES = 256, LINE = 1 << 16 };

struct values {
    double * at;
    size_t   n, room;
};

enum phase { HEAD, SIZE, DATA, GAP, END };

struct lane {
    int        fd;
    bool       is_long, done;
    double     start, first, last;
    double     prompt; /* seconds that the server says it computed the prompt for */
    int        n_events, status;
    enum phase phase;
    bool       chunked;
    size_t     left;   /* bytes of this chunk still to come */
    size_t     n_line; /* bytes of the line that is being read: a header, a chunk's size, or SSE's */
    char       line[LINE];
    size_t     n_sse;
    char       sse[LINE];
};

static struct lane * lanes, *the_long;
static struct values ttft, leads, gaps, pauses, whole;
static const char *  path      = "/v1/completions";
static char *        body      = NULL;
static char *        long_body = NULL;
static int           port = 0, n_wanted = 0, n_lanes = 1, number = 0, timeout_s = 300;
static int           n_started = 0, n_ok = 0, n_failed = 0, epoll = -1;
static long          n_tokens = 0, n_prompt = 0, n_cached = 0, n_events = 0;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char * what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void push(struct values * values, double value) {
    if (values->n == values->room) {
        values->room = values->room ? 2 * values->room : 4096;
        values->at   = realloc(values->at, values->room * sizeof(double));
        if (!values->at) {
            die("memory");
        }
    }
    values->at[values->n++] = value;
}

static int ascending(const void * a, const void * b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* "name":{"n":..,"mean":..,"p50":..,"p95":..,"max":..} in milliseconds; null when there is nothing */
static void print_values(const char * name, struct values * values) {
    if (!values->n) {
        printf(",\"%s\":null", name);
        return;
    }
    qsort(values->at, values->n, sizeof(double), ascending);
    const size_t last = values->n - 1;
    double       sum  = 0;
    for (size_t i = 0; i < values->n; i++) {
        sum += values->at[i];
    }
    printf(",\"%s\":{\"n\":%zu,\"mean\":%.3f,\"p50\":%.3f,\"p95\":%.3f,\"max\":%.3f}", name, values->n,
           1e3 * sum / (double)values->n, 1e3 * values->at[last / 2], 1e3 * values->at[(size_t)(0.95 * (double)last + 0.5)],
           1e3 * values->at[last]);
}

static char * read_file(const char * name) {
    FILE * file = fopen(name, "r");
    if (!file) {
        die(name);
    }
    fseek(file, 0, SEEK_END);
    const long size = ftell(file);
    rewind(file);
    char * text = calloc(1, (size_t)size + 1);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size) {
        die(name);
    }
    fclose(file);
    return text;
}

static void begin(struct lane * lane, const char * text) {
    const bool is_long = lane->is_long;
    memset(lane, 0, sizeof *lane);
    lane->is_long     = is_long;
    const char * mark = strstr(text, "%d");
    char *       full = NULL;
    char *       all  = NULL;
    if ((mark ? asprintf(&full, "%.*s%d%s", (int)(mark - text), text, number++, mark + 2)
              : asprintf(&full, "%s", text)) < 0) {
        die("memory");
    }
    const int size = asprintf(&all,
                              "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
                              "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                              path, port, strlen(full), full);
    if (size < 0) {
        die("memory");
    }
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    to.sin_addr.s_addr    = htonl(INADDR_LOOPBACK);
    const int one         = 1;
    lane->fd              = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    lane->start = lane->last = now();
    if (lane->fd < 0 || connect(lane->fd, (struct sockaddr *)&to, sizeof to)) {
        die("connect");
    }
    setsockopt(lane->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int sent = 0; sent < size;) {
        const ssize_t n = write(lane->fd, all + sent, (size_t)(size - sent));
        if (n <= 0) {
            die("write");
        }
        sent += (int)n;
    }
    free(full);
    free(all);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = lane};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, lane->fd, &event)) {
        die("epoll");
    }
}

static void finish(struct lane * lane) {
    close(lane->fd);
    lane->fd = -1;
    if (lane->status == 200 && lane->done && lane->n_events) {
        n_ok++;
        push(&whole, now() - lane->start);
        if (lane->prompt > 0 && !lane->is_long) {
            push(&leads, lane->first - lane->start - lane->prompt);
        }
    } else {
        n_failed++;
        if (n_failed <= 3) {
            fprintf(stderr, "load: request failed: status %d, %d events, %s\n%.*s\n", lane->status, lane->n_events,
                    lane->done ? "done" : "cut off", (int)(lane->n_sse < 500 ? lane->n_sse : 500), lane->sse);
        }
    }
    if (lane->is_long) {
        return;
    }
    if (long_body ? !(the_long && the_long->fd < 0) : n_started < n_wanted) {
        n_started++;
        begin(lane, body);
    }
}

/* whether the JSON text has a string of that name that is not empty; both servers write JSON without spaces */
static bool carries(const char * json, const char * name) {
    const char * at = strstr(json, name);
    return at && at[strlen(name)] != '"';
}

static long figure(const char * json, const char * name) {
    const char * at = strstr(json, name);
    return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

static void on_text(struct lane * lane, double t) {
    n_events++;
    if (!lane->n_events++) {
        lane->first = t;
        if (!lane->is_long) {
            push(&ttft, t - lane->start);
        }
    } else if (!lane->is_long) {
        push(&gaps, t - lane->last);
    }
    /* a lane pauses while the prompt comes in: between two events, or from a request to its first */
    if (!lane->is_long && the_long && (!the_long->first || lane->last < the_long->first)) {
        push(&pauses, t - lane->last);
    }
    lane->last = t;
}

static void on_sse_line(struct lane * lane, double t) {
    lane->sse[lane->n_sse] = 0;
    const char * json      = lane->sse + 5;
    if (strncmp(lane->sse, "data:", 5) != 0) {
        return;
    }
    json += *json == ' ';
    if (!strncmp(json, "[DONE]", 6)) {
        lane->done = true;
        return;
    }
    if (carries(json, "\"text\":\"") || carries(json, "\"content\":\"") || carries(json, "\"reasoning_content\":\"")) {
        on_text(lane, t);
    }
    const char * prompt = strstr(json, "\"prompt_ms\":");
    if (prompt) {
        lane->prompt = 1e-3 * strtod(prompt + strlen("\"prompt_ms\":"), NULL);
    }
    const char * usage = strstr(json, "\"usage\":{");
    if (usage) {
        n_tokens += figure(usage, "\"completion_tokens\":");
        n_prompt += figure(usage, "\"prompt_tokens\":");
        n_cached += figure(usage, "\"cached_tokens\":");
    }
}

static void on_header(struct lane * lane) {
    lane->line[lane->n_line] = 0;
    if (!lane->status) {
        sscanf(lane->line, "HTTP/%*s %d", &lane->status);
    } else if (!strncasecmp(lane->line, "transfer-encoding: chunked", 26)) {
        lane->chunked = true;
    } else if (!lane->n_line) {
        lane->phase = lane->chunked ? SIZE : DATA;
        lane->left  = lane->chunked ? 0 : (size_t)-1;
    }
}

/* take the next line up to "\r\n" out of [at, end); returns where it went on, sets *whole_line when the line is there
 */
static const char * take_line(struct lane * lane, const char * at, const char * end, bool * whole_line) {
    const char * feed = memchr(at, '\n', (size_t)(end - at));
    const char * stop = feed ? feed : end;
    const size_t n    = (size_t)(stop - at);
    if (lane->n_line + n >= LINE) {
        errno = EMSGSIZE;
        die("a line of HTTP");
    }
    memcpy(lane->line + lane->n_line, at, n);
    lane->n_line += n;
    *whole_line = feed != NULL;
    if (feed && lane->n_line && lane->line[lane->n_line - 1] == '\r') {
        lane->n_line--;
    }
    return feed ? feed + 1 : end;
}

static void on_body(struct lane * lane, const char * at, size_t n, double t) {
    const char * const end = at + n;
    while (at < end) {
        const char * feed = memchr(at, '\n', (size_t)(end - at));
        const char * stop = feed ? feed : end;
        const size_t size = (size_t)(stop - at);
        if (lane->n_sse + size >= LINE) {
            errno = EMSGSIZE;
            die("an event");
        }
        memcpy(lane->sse + lane->n_sse, at, size);
        lane->n_sse += size;
        if (feed) {
            on_sse_line(lane, t);
            lane->n_sse = 0;
        }
        at = stop + (feed ? 1 : 0);
    }
}

static void on_bytes(struct lane * lane, const char * at, size_t n, double t) {
    const char * const end = at + n;
    while (at < end && lane->phase != END) {
        if (lane->phase == DATA) {
            size_t part = (size_t)(end - at);
            part        = part < lane->left ? part : lane->left;
            on_body(lane, at, part, t);
            at += part;
            lane->left -= part;
            lane->phase = lane->left ? DATA : GAP;
            continue;
        }
        bool whole_line = false;
        at              = take_line(lane, at, end, &whole_line);
        if (!whole_line) {
            return;
        }
        if (lane->phase == HEAD) {
            on_header(lane);
        } else if (lane->phase == SIZE) {
            lane->line[lane->n_line] = 0;
            lane->left               = strtoul(lane->line, NULL, 16);
            lane->phase              = lane->left ? DATA : END;
        } else {
            lane->phase = SIZE;
        }
        lane->n_line = 0;
    }
}

static void maybe_begin_long(void) {
    if (!long_body || the_long) {
        return;
    }
    for (int i = 0; i < n_lanes; i++) {
        if (lanes[i].n_events < 8) {
            return;
        }
    }
    the_long          = &lanes[n_lanes];
    the_long->is_long = true;
    begin(the_long, long_body);
}

static void arguments(int argc, char ** argv) {
    for (int i = 1; i < argc; i++) {
        char * value = strchr(argv[i], '=');
        if (!value) {
            fprintf(stderr, "load: %s is no name=value\n", argv[i]);
            exit(2);
        }
        *value++ = 0;
        if (!strcmp(argv[i], "port")) {
            port = atoi(value);
        } else if (!strcmp(argv[i], "path")) {
            path = value;
        } else if (!strcmp(argv[i], "body")) {
            body = read_file(value);
        } else if (!strcmp(argv[i], "long")) {
            long_body = read_file(value);
        } else if (!strcmp(argv[i], "n")) {
            n_wanted = atoi(value);
        } else if (!strcmp(argv[i], "c")) {
            n_lanes = atoi(value);
        } else if (!strcmp(argv[i], "first")) {
            number = atoi(value);
        } else if (!strcmp(argv[i], "timeout")) {
            timeout_s = atoi(value);
        } else {
            fprintf(stderr, "load: no parameter %s\n", argv[i]);
            exit(2);
        }
    }
    if (!port || !body || n_wanted < 1 || n_lanes < 1 || n_lanes > MAX_LANES) {
        fprintf(stderr, "usage: load port=P path=PATH body=FILE n=N c=N [first=N] [long=FILE] [timeout=SECONDS]\n");
        exit(2);
    }
    n_lanes = n_lanes < n_wanted ? n_lanes : n_wanted;
}

int main(int argc, char ** argv) {
    arguments(argc, argv);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    lanes = calloc((size_t)n_lanes + 1, sizeof *lanes);
    if (epoll < 0 || !lanes) {
        die("start");
    }
    const double began = now();
    for (int i = 0; i < n_lanes; i++) {
        n_started++;
        begin(&lanes[i], body);
    }
    static char        buffer[1 << 16];
    struct epoll_event ready[MAX_LANES + 1];
    while (long_body ? !(the_long && the_long->fd < 0) : n_ok + n_failed < n_wanted) {
        const int n = epoll_wait(epoll, ready, MAX_LANES + 1, timeout_s * 1000);
        if (n <= 0) {
            fprintf(stderr, "load: nothing came for %d s\n", timeout_s);
            return 1;
        }
        if (long_body && !the_long && n_failed) {
            break;
        }
        for (int i = 0; i < n; i++) {
            struct lane * lane = ready[i].data.ptr;
            const ssize_t got  = read(lane->fd, buffer, sizeof buffer);
            if (got > 0) {
                on_bytes(lane, buffer, (size_t)got, now());
            }
            if (got <= 0 || lane->done) {
                finish(lane);
            }
        }
        maybe_begin_long();
    }
    printf(
        "{\"ok\":%d,\"failed\":%d,\"seconds\":%.4f,\"tokens\":%ld,\"prompt_tokens\":%ld,\"cached_tokens\":%ld,"
        "\"events\":%ld",
        n_ok, n_failed, now() - began, n_tokens, n_prompt, n_cached, n_events);
    if (the_long) {
        printf(",\"long_ttft_ms\":%.3f", the_long->first ? 1e3 * (the_long->first - the_long->start) : -1.0);
    }
    print_values("ttft", &ttft);
    print_values("lead", &leads);
    print_values("gap", &gaps);
    print_values("pause", &pauses);
    print_values("whole", &whole);
    printf("}\n");
    return n_failed ? 1 : 0;
}
