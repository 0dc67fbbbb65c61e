# The locked packages and the node go into /opt/venv; the image that runs has neither the source nor build tools.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv
COPY requirements.lock ./
RUN /opt/venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY config config
COPY peers peers
COPY handlers handlers
COPY masa_node masa_node
RUN /opt/venv/bin/python -m pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/masa --shell /usr/sbin/nologin masa
RUN install -d -m 0700 -o masa -g masa /var/lib/masa
COPY --from=build /opt/venv /opt/venv
# Inside a container loopback reaches nobody, so HOST is every address: `run` asks for API_KEYS (or ALLOW_OPEN_API).
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 MASA_DIR=/var/lib/masa HOST=0.0.0.0 PORT=8080
USER masa
WORKDIR /var/lib/masa
VOLUME /var/lib/masa
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", "import http.client, os, sys; node = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('MASA_PORT') or os.environ['PORT']), timeout=4); node.request('GET', '/health'); sys.exit(node.getresponse().status != 200)"]
ENTRYPOINT ["masa-node"]
CMD ["run"]
