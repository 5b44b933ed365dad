// Says what the API server of Kubernetes has against manifests, without one: strict decoding, defaults, conversion, and the
// validation that it runs before it takes a Job, Service, Secret or ConfigMap. Reads YAML documents from standard input, and
// writes a line of JSON for each: {"kind": …, "name": …, "errors": […]}.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/batch"
	batchinstall "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	coreinstall "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
)

type verdict struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Errors []string `json:"errors"`
}

func main() {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	scheme := runtime.NewScheme()
	coreinstall.Install(scheme)
	batchinstall.Install(scheme)
	codecs := serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	decoder := codecs.UniversalDecoder(core.SchemeGroupVersion, batch.SchemeGroupVersion)
	output := json.NewEncoder(os.Stdout)
	for _, document := range bytes.Split(append([]byte("\n"), text...), []byte("\n---\n")) {
		if strings.TrimSpace(string(document)) == "" {
			continue
		}
		if err := output.Encode(judge(decoder, document)); err != nil {
			panic(err)
		}
	}
}

func judge(decoder runtime.Decoder, document []byte) verdict {
	object, gvk, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return verdict{Errors: []string{err.Error()}}
	}
	meta := object.(metav1.Object)
	// What a request fills in.
	if meta.GetNamespace() == "" {
		meta.SetNamespace("default")
	}
	meta.SetUID("00000000-0000-0000-0000-000000000000")
	result := verdict{Kind: gvk.Kind, Name: meta.GetName(), Errors: []string{}}
	for _, problem := range validate(object) {
		result.Errors = append(result.Errors, problem.Error())
	}
	return result
}

func validate(object runtime.Object) field.ErrorList {
	switch object := object.(type) {
	case *batch.Job:
		prepareJob(object)
		return batchvalidation.ValidateJob(object, batchvalidation.JobValidationOptions{RequirePrefixedLabels: true})
	case *core.Service:
		// What the allocator of addresses fills in.
		single := core.IPFamilyPolicySingleStack
		object.Spec.ClusterIPs = []string{object.Spec.ClusterIP}
		object.Spec.IPFamilyPolicy, object.Spec.IPFamilies = &single, []core.IPFamily{core.IPv4Protocol}
		return corevalidation.ValidateServiceCreate(object)
	case *core.Secret:
		return corevalidation.ValidateSecret(object)
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(object)
	}
	return field.ErrorList{field.InternalError(nil, io.ErrUnexpectedEOF)}
}

// What the Job's strategy does before it validates: selector and labels by which the Job knows its pods.
func prepareJob(job *batch.Job) {
	own := map[string]string{
		"batch.kubernetes.io/controller-uid": string(job.UID),
		"controller-uid":                     string(job.UID),
		"batch.kubernetes.io/job-name":       job.Name,
		"job-name":                           job.Name,
	}
	for key, value := range job.Spec.Template.Labels {
		own[key] = value
	}
	job.Spec.Template.Labels = own
	job.Spec.Selector = &metav1.LabelSelector{
		MatchLabels: map[string]string{"batch.kubernetes.io/controller-uid": string(job.UID)},
	}
}
