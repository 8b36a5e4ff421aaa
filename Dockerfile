FROM python:3.13-slim
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY bandit bandit
COPY simulator simulator
RUN pip install --no-cache-dir . && useradd --system bandit
USER bandit
EXPOSE 8080
# exec form: signals reach the parent, which stops its workers in order
ENTRYPOINT ["bandit-server"]
CMD ["serve"]
