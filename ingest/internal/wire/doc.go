// Package wire reads remote_write bodies, 1.0 (prometheus.WriteRequest) and
// 2.0 (io.prometheus.write.v2.Request), without allocating per sample and
// without building a label.
//
// In:   one decompressed request body, borrowed from the caller.
// Out:  a [Request] of flat arrays. Series point into the body by offset;
//
//	samples are copied; histograms and exemplar labels are fresh memory,
//	because the storage engine keeps them.
//
// Owns: nothing of the body. A Request and every byte slice taken from it are
// valid until the body is reused or [Request.Reset] is called.
//
// The reader accepts and refuses exactly what the generated decoders of
// Prometheus accept and refuse (FuzzV1, FuzzV2 hold it to that), with one
// addition: field 6 of a 2.0 TimeSeries, which is created_timestamp up to
// release candidate 3 and reserved since release candidate 4, is read.
//
// This is the only package of the project that uses package unsafe, and only
// to view bytes of the body as a string for the length of one call.
// [OTLP] is the same for ExportMetricsServiceRequest, up to its points, exemplars
// and buckets; attributes stay bytes (FuzzOTLP in package ingest holds it to the
// collector's decoder).
//
// Only package ingest may import it.
package wire
