// Kubernetes' own end-to-end specs of pod networks, services and DNS, with upstream's suite and flags: what its e2e.test
// has of them. tools/setup/conformance.sh builds it, tools/conformance/run.py runs the specs that are chosen.
package main

import (
	"flag"
	"os"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"k8s.io/component-base/logs"
	conformancetestdata "k8s.io/kubernetes/test/conformance/testdata"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	e2etestingmanifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	testfixtures "k8s.io/kubernetes/test/fixtures"

	_ "k8s.io/kubernetes/test/e2e"                // what the suite does before its first spec
	_ "k8s.io/kubernetes/test/e2e/common/network" // the specs
	_ "k8s.io/kubernetes/test/e2e/feature"        // the labels that they may have
	_ "k8s.io/kubernetes/test/e2e/network"        // the specs

	_ "k8s.io/kubernetes/test/e2e/framework/debug/init" // what a failing spec prints of the cluster
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/format"
)

// verdict is what ginkgo asks of a *testing.T.
type verdict struct{}

func (verdict) Fail() {}

func main() {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	testfiles.AddFileSource(e2etestingmanifests.GetE2ETestingManifestsFS())
	testfiles.AddFileSource(testfixtures.GetTestFixturesFS())
	testfiles.AddFileSource(conformancetestdata.GetConformanceTestdataFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	logs.InitLogs()
	defer logs.FlushLogs()
	gomega.RegisterFailHandler(framework.Fail)
	suite, reporter := framework.CreateGinkgoConfig()
	if !ginkgo.RunSpecs(verdict{}, "Kubernetes e2e suite", suite, reporter) {
		logs.FlushLogs()
		os.Exit(1)
	}
}
