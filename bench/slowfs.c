/* A read-only FUSE view of a folder that takes its time, with little CPU of its own.
 *
 *     slowfs SOURCE MOUNTPOINT OPEN_MS READ_MS JITTER TAIL TAIL_MS
 *
 * Each open takes OPEN_MS and each read request READ_MS, multiplied by a number drawn from 1 ± JITTER; the share TAIL of
 * the opens takes TAIL_MS more. Names and attributes cost nothing, as on a mount that keeps them. Content is asked for
 * anew at every open (no keep_cache), in requests of up to 1 MiB, so that an epoch costs the same each time.
 *
 * Calls wait by sleeping, each on a thread of its own, up to MOST at once; libfuse would stop at 10, and the kernel at 12
 * reads ahead. Ends when its standard input does, so that it never outlives the benchmark that started it.
 *
 * Built on the low-level interface of libfuse 3.12 or newer, after example/passthrough_ll.c there; nodes are never
 * forgotten, for the tree is small and does not change.
 */
#define FUSE_USE_VERSION 312
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, BUCKETS = 1 << 16 };
static const double KEPT_S = 3600.0;

struct node {
    struct node *next; /* of its bucket */
    char path[];
};

static struct node *buckets[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct node *root;
static double open_s, read_s, jitter, tail, tail_s;
static atomic_ullong drawn;
static struct fuse_session *session;

/* Return a number from [0, 1): splitmix64 (Steele, Lea and Flood, OOPSLA 2014) of how many were drawn before. */
static double chance(void) {
    unsigned long long z = (atomic_fetch_add(&drawn, 1) + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

static void take_time(double seconds, double share, double more) {
    seconds *= 1 + jitter * (2 * chance() - 1);
    if (share > 0 && chance() < share)
        seconds += more;
    struct timespec span = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (seconds > 0 && nanosleep(&span, &span) == -1 && errno == EINTR)
        ;
}

static struct node *node_at(const char *folder, const char *name) {
    char path[4096];
    size_t hash = 5381;
    snprintf(path, sizeof path, *folder ? "%s/%s" : "%s%s", folder, name);
    for (const char *at = path; *at; at++)
        hash = hash * 33 ^ (unsigned char)*at;
    struct node **bucket = &buckets[hash % BUCKETS], *found;
    pthread_mutex_lock(&lock);
    for (found = *bucket; found && strcmp(found->path, path); found = found->next)
        ;
    if (!found && (found = malloc(sizeof *found + strlen(path) + 1))) {
        strcpy(found->path, path);
        found->next = *bucket;
        *bucket = found;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static struct node *node_of(fuse_ino_t ino) { return ino == FUSE_ROOT_ID ? root : (struct node *)ino; }

static void do_init(void *data, struct fuse_conn_info *connection) {
    (void)data;
    connection->max_background = connection->congestion_threshold = MOST;
    connection->max_readahead = 1 << 20;
}

static void do_lookup(fuse_req_t request, fuse_ino_t parent, const char *name) {
    struct fuse_entry_param entry = {.attr_timeout = KEPT_S, .entry_timeout = KEPT_S};
    struct node *node = node_at(node_of(parent)->path, name);
    if (!node || stat(node->path, &entry.attr) == -1) {
        fuse_reply_err(request, node ? errno : ENOMEM);
        return;
    }
    entry.ino = (fuse_ino_t)node;
    fuse_reply_entry(request, &entry);
}

static void do_getattr(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *file) {
    (void)file;
    struct stat attributes;
    if (stat(node_of(ino)->path, &attributes) == -1)
        fuse_reply_err(request, errno);
    else
        fuse_reply_attr(request, &attributes, KEPT_S);
}

static void do_open(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *file) {
    take_time(open_s, tail, tail_s);
    int descriptor = open(node_of(ino)->path, O_RDONLY | O_CLOEXEC);
    if (descriptor == -1) {
        fuse_reply_err(request, errno);
        return;
    }
    file->fh = (uint64_t)descriptor;
    fuse_reply_open(request, file);
}

static void do_read(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file) {
    (void)ino;
    take_time(read_s, 0, 0);
    struct fuse_bufvec content = FUSE_BUFVEC_INIT(size);
    content.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
    content.buf[0].fd = (int)file->fh;
    content.buf[0].pos = offset;
    fuse_reply_data(request, &content, FUSE_BUF_SPLICE_MOVE);
}

static void do_release(fuse_req_t request, fuse_ino_t ino, struct fuse_file_info *file) {
    (void)ino;
    close((int)file->fh);
    fuse_reply_err(request, 0);
}

static void do_readdir(fuse_req_t request, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file) {
    (void)file;
    char *page = malloc(size);
    DIR *folder = page ? opendir(node_of(ino)->path) : NULL;
    if (!folder) {
        fuse_reply_err(request, page ? errno : ENOMEM);
        free(page);
        return;
    }
    size_t used = 0;
    struct dirent *entry;
    for (off_t place = 1; (entry = readdir(folder)); place++) {
        struct stat kind = {.st_ino = entry->d_ino, .st_mode = (mode_t)DTTOIF(entry->d_type)};
        if (place <= offset)
            continue;
        size_t needed = fuse_add_direntry(request, page + used, size - used, entry->d_name, &kind, place);
        if (needed > size - used)
            break;
        used += needed;
    }
    fuse_reply_buf(request, page, used);
    closedir(folder);
    free(page);
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init,
    .lookup = do_lookup,
    .getattr = do_getattr,
    .open = do_open,
    .read = do_read,
    .release = do_release,
    .readdir = do_readdir,
};

static void *end_with_input(void *mountpoint) {
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    fuse_session_exit(session);
    fuse_session_unmount(session); /* wakes the threads that wait for a request */
    return mountpoint;
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: slowfs SOURCE MOUNTPOINT OPEN_MS READ_MS JITTER TAIL TAIL_MS\n");
        return 2;
    }
    root = node_at("", arguments[1]);
    open_s = atof(arguments[3]) / 1e3, read_s = atof(arguments[4]) / 1e3, jitter = atof(arguments[5]);
    tail = atof(arguments[6]), tail_s = atof(arguments[7]) / 1e3;

    char *options[] = {"slowfs", "-o", "ro,fsname=slowfs,allow_other"};
    struct fuse_args parsed = FUSE_ARGS_INIT(geteuid() == 0 ? 3 : 1, options);
    session = fuse_session_new(&parsed, &operations, sizeof operations, NULL);
    if (!session || fuse_session_mount(session, arguments[2]))
        return 1;
    struct fuse_loop_config *loop = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(loop, MOST);
    fuse_loop_cfg_set_idle_threads(loop, MOST);
    pthread_t ender;
    pthread_create(&ender, NULL, end_with_input, NULL);
    return fuse_session_loop_mt(session, loop) != 0;
}
