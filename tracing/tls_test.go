package tracing

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
)

// certificate writes one for 127.0.0.1 and returns its files and who trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "weir"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	require.NoError(t, err)
	pkcs, err := x509.MarshalPKCS8PrivateKey(secret)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key, pool = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	require.NoError(t, os.WriteFile(cert, certPEM, 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}), 0o600))
	return cert, key, pool
}

// TestTLS: HTTP and gRPC receivers speak it where there is a certificate, and not plain
// text.
func TestTLS(t *testing.T) {
	cert, key, pool := certificate(t)
	r := newRig(t, func(c *Config, _ *Deps) { c.TLS.CertFile, c.TLS.KeyFile = cert, key })
	r.run(t)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Post("https://"+r.Addr(thriftSetting).String()+"/api/traces", "application/x-thrift",
		bytes.NewReader(thriftBody(t, thriftSpan(1))))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusAccepted, resp.StatusCode)
	code, _, _ := r.post(t, thriftSetting, "/api/traces", nil)
	require.Equal(t, http.StatusBadRequest, code, "plain text")

	conn, err := grpc.NewClient(r.Addr(grpcSetting).String(), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool})),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(collectorCodec{encoding.GetCodecV2("proto")})))
	require.NoError(t, err)
	defer conn.Close()
	_, err = api_v2.NewCollectorServiceClient(conn).PostSpans(context.Background(), &api_v2.PostSpansRequest{})
	require.NoError(t, err)
	_, err = r.collectorClient(t).PostSpans(context.Background(), &api_v2.PostSpansRequest{})
	require.Error(t, err, "plain text")
}
