# One image from which the four apps run: docker-compose.yml says which. Node runs the sources as they are; nothing is built.
FROM node:24.21.0-slim
ENV NODE_ENV=production
WORKDIR /app
COPY . .
RUN npm ci --omit=dev --ignore-scripts -w apps/gateway -w apps/relay -w apps/projector -w apps/query && npm cache clean --force
USER node
ENV HOST=0.0.0.0 HEALTH_PORT=3000
HEALTHCHECK --interval=5s --timeout=5s --retries=12 --start-period=10s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.HEALTH_PORT}/health/ready`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "apps/gateway/main.ts"]
