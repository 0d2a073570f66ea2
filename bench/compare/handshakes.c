/*
 * Makes TLS 1.3 connections to 127.0.0.1, for bench/compare: a program in C, since it must cost less than the servers
 * that it measures.
 *
 *     handshakes full|resumed PORT CONNECTIONS SECONDS    prints how many handshakes it made
 *     handshakes idle PORT CONNECTIONS                    prints "ready" once each has had one response, and stays
 *
 * A handshake counts when the server has closed too: until then it need not have seen the end of it.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64

typedef struct {
  int fd;
  SSL *ssl;
  int spoken;
  int answered;
  int ticket;
} Connection;

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const unsigned char ALPN[] = "\x08http/1.1";

static SSL_CTX *context;
static SSL_SESSION *session;
static int poller, port, resumes;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

static int on_ticket(SSL *ssl, SSL_SESSION *fresh) {
  Connection *connection = SSL_get_app_data(ssl);
  connection->ticket = 1;
  if (session != NULL) return 0;
  session = fresh;
  return 1;
}

static void open_connection(Connection *connection) {
  memset(connection, 0, sizeof *connection);
  connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (connection->fd < 0) die("socket");
  int on = 1;
  /* Closed by a reset, so that no port waits. */
  struct linger reset = {1, 0};
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  connect(connection->fd, (struct sockaddr *)&address, sizeof address);

  connection->ssl = SSL_new(context);
  SSL_set_app_data(connection->ssl, connection);
  SSL_set_fd(connection->ssl, connection->fd);
  SSL_set_connect_state(connection->ssl);
  SSL_set_tlsext_host_name(connection->ssl, "localhost");
  if (resumes) {
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    SSL_set_session(connection->ssl, copy);
    SSL_SESSION_free(copy);
  }
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = connection};
  epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
}

static void close_connection(Connection *connection) {
  SSL_set_shutdown(connection->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(connection->ssl);
  close(connection->fd);
}

/* Goes on as far as it can. */
static void advance(Connection *connection, int asks) {
  char bytes[16384];
  int result = SSL_do_handshake(connection->ssl);
  if (result == 1 && !connection->spoken) {
    connection->spoken = 1;
    if (asks) {
      SSL_write(connection->ssl, REQUEST, sizeof REQUEST - 1);
    } else {
      SSL_shutdown(connection->ssl);
      shutdown(connection->fd, SHUT_WR);
    }
  }
  while (result > 0) {
    result = SSL_read(connection->ssl, bytes, sizeof bytes);
    if (result > 0) connection->answered = 1;
  }
  int error = SSL_get_error(connection->ssl, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
  if (connection->spoken && !asks) {
    connection->answered = 1;
    ERR_clear_error();
  } else {
    fprintf(stderr, "a connection failed\n");
    ERR_print_errors_fp(stderr);
    exit(1);
  }
}

static void wait_for_response(Connection *connection) {
  struct epoll_event event;
  while (!connection->ticket || !connection->answered) {
    if (epoll_wait(poller, &event, 1, 10000) < 1) die("nothing came for 10 s");
    advance(event.data.ptr, 1);
  }
}

static long handshakes(int count, double duration) {
  Connection *connections = calloc(count, sizeof *connections);
  struct epoll_event events[BATCH];
  long done = 0;
  for (int i = 0; i < count; i++) open_connection(&connections[i]);
  double end = seconds() + duration;
  while (seconds() < end) {
    int ready = epoll_wait(poller, events, BATCH, 100);
    for (int i = 0; i < ready; i++) {
      Connection *connection = events[i].data.ptr;
      advance(connection, 0);
      if (!connection->answered) continue;
      if (SSL_session_reused(connection->ssl) != resumes) {
        fprintf(stderr, "a session was %sresumed\n", resumes ? "not " : "");
        exit(1);
      }
      done++;
      close_connection(connection);
      open_connection(connection);
    }
  }
  return done;
}

static void hold(int count) {
  for (int i = 0; i < count; i++) {
    Connection *connection = malloc(sizeof *connection);
    open_connection(connection);
    wait_for_response(connection);
  }
  printf("ready\n");
  fflush(stdout);
  pause();
}

int main(int count, char **arguments) {
  if (count < 4) return 2;
  const char *mode = arguments[1];
  port = atoi(arguments[2]);
  poller = epoll_create1(0);
  context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set1_groups_list(context, "X25519:P-256");
  SSL_CTX_set_alpn_protos(context, ALPN, sizeof ALPN - 1);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, on_ticket);

  if (strcmp(mode, "idle") == 0) {
    hold(atoi(arguments[3]));
    return 0;
  }
  if (strcmp(mode, "resumed") == 0) {
    Connection first;
    open_connection(&first);
    wait_for_response(&first);
    close_connection(&first);
    resumes = 1;
  }
  printf("%ld\n", handshakes(atoi(arguments[3]), atof(arguments[4])));
  return 0;
}
