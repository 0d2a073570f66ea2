# Run as a sidecar of one app:
#   docker run --read-only -p 443:443 -p 80:80 -v holdfast:/data \
#     -e HOLDFAST_HOSTS=app.example.com -e HOLDFAST_UPSTREAMS=http://app:3000 -e HOLDFAST_CONTACT=ops@example.com \
#     -e HOLDFAST_CAS=letsencrypt,zerossl -e ZEROSSL_KID -e ZEROSSL_HMAC holdfast
# or with a config file: -v ./proxy.config.json:/proxy.config.json:ro

FROM node:24-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./

FROM packages AS build
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src src
RUN npm run build

# The optional packages bring Node to machines with an older one; this image has its own.
FROM packages AS production
RUN npm ci --ignore-scripts --omit=dev --omit=optional

FROM node:24-bookworm-slim
ENV NODE_ENV=production
COPY --from=production /app/node_modules /app/node_modules
COPY --from=build /app/dist /app/dist
COPY package.json LICENSE /app/
COPY bin /app/bin
RUN install -d -m 700 -o 1000 -g 1000 /data
# For `docker exec NAME holdfast status`.
RUN ln -s /app/bin/holdfast.js /usr/local/bin/holdfast

# Config is looked for here, and the default store `./data` is the volume.
WORKDIR /
VOLUME /data

# By number, so that Kubernetes can tell that it is not root. Docker, and containerd from 2.0, let any user of a container
# bind 443 and 80, the ports that a sidecar without a config listens on; elsewhere (Podman) allow it by
# `--sysctl net.ipv4.ip_unprivileged_port_start=0`, or listen on 8443 and 8080 by a config file (`-p 443:8443 -p 80:8080`).
USER 1000:1000
EXPOSE 443 80

# The admin endpoint's default address. A config that moves it needs a health check of its own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["node", "-e", \
  "fetch('http://127.0.0.1:9443/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]

ENTRYPOINT ["node", "/app/bin/holdfast.js"]
CMD ["serve"]
