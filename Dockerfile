FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /keyway ./cmd/keyway

FROM scratch
# For nodes whose certificates a public authority has signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /keyway /keyway
USER 65532:65532
EXPOSE 6380 9380
ENTRYPOINT ["/keyway"]
CMD ["serve", "-c", "/etc/keyway/keyway.yml"]
