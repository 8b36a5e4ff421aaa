FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY bandit bandit
COPY simulator simulator
# all bytecode is made now: where it runs, nothing can be written
RUN pip install --no-cache-dir --compile . && rm -rf /app/*
# without a buffer a line of the log is there when it is written; keys are asked for on such a host
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 BANDIT_HOST=0.0.0.0
# no root, and no user of a name: any other id works as well, with a read-only root
USER 10001:0
EXPOSE 8080
# exec form: signals reach the parent, which drains, and stops its workers in order
STOPSIGNAL SIGTERM
ENTRYPOINT ["bandit-server"]
CMD ["serve"]
