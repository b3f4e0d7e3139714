# One image for every part: `bridge receiver`, `bridge worker`, `bridge sandbox` and all other commands.
#
# Only wheels whose hashes stand in requirements.lock get in, and of those only what Bridge needs to run: no compiler,
# no pip, no test tools. Templates and accounts.yaml are yours and are mounted (see docker-compose.yml).

FROM python:3.12-slim AS build
WORKDIR /src

COPY requirements.lock ./
RUN python -m pip download --quiet --no-cache-dir --disable-pip-version-check --require-hashes --only-binary=:all: \
        -r requirements.lock -d /wheels

COPY pyproject.toml README.md LICENSE ./
COPY bridge ./bridge
RUN python -m venv --without-pip /opt/bridge \
    && python -m pip --python /opt/bridge/bin/python install --quiet --no-cache-dir --disable-pip-version-check \
        --no-index --find-links /wheels .


FROM python:3.12-slim
RUN groupadd --system --gid 10001 bridge \
    && useradd --system --uid 10001 --gid 10001 --home-dir /app --no-create-home --shell /usr/sbin/nologin bridge
COPY --from=build /opt/bridge /opt/bridge
WORKDIR /app
ENV PATH="/opt/bridge/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["bridge"]
CMD ["--help"]
