/* Tells user space how many ticks have passed: the agent runs it twice around a wait to find the length of a tick. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int clock(struct __sk_buff *skb)
{
	(void)skb;
	return (__u32)bpf_jiffies64() & 0x7fffffff;
}

char _license[] SEC("license") = "Dual MIT/GPL";
