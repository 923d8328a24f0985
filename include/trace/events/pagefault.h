/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pagefault

#if !defined(_TRACE_PAGEFAULT_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PAGEFAULT_H

#include <linux/mm.h>
#include <linux/ptrace.h>
#include <linux/spf.h>
#include <linux/tracepoint.h>
#include <trace/events/mmflags.h>

/*
 * A speculative page fault is aborted. seq is vm_lock_seq at the start of the
 * fault, seq_now is what it has become, and mm_seq is mm_lock_seq: the same as
 * seq_now while the VMA is write-locked. pmd and pmd_now are those of
 * spf_pmd_changed, the one that was walked and the one that was found.
 */
DECLARE_EVENT_CLASS(spf_abort,

	TP_PROTO(const struct spf_fault *fault,
		 const struct vm_area_struct *live, unsigned int seq,
		 const struct vma_speculation *spf),

	TP_ARGS(fault, live, seq, spf),

	TP_STRUCT__entry(
		__field(unsigned long, address)
		__field(unsigned long, ip)
		__field(unsigned long, vm_flags)
		__field(unsigned long, pmd)
		__field(unsigned long, pmd_now)
		__field(unsigned int, seq)
		__field(unsigned int, seq_now)
		__field(unsigned int, mm_seq)
		__field(bool, user)
		__field(bool, write)
		__field(bool, exec)
		__field(bool, retry)
	),

	TP_fast_assign(
		bool changed = spf && spf->reason == SPF_ABORT_PMD_CHANGED;
		struct mm_struct *mm = current->mm;

		__entry->address = fault->address;
		__entry->ip = instruction_pointer(fault->regs);
		/* What changed may do so again: for people, nothing depends on it. */
		__entry->vm_flags = live ? data_race(live->vm_flags) : 0;
		__entry->pmd = changed ? pmd_val(spf->pmd) : 0;
		__entry->pmd_now = changed ? pmd_val(spf->found) : 0;
		__entry->seq = seq;
		__entry->seq_now = live ? READ_ONCE(live->vm_lock_seq) : 0;
		__entry->mm_seq = READ_ONCE(mm->mm_lock_seq.sequence);
		__entry->user = fault->flags & FAULT_FLAG_USER;
		__entry->write = fault->flags & FAULT_FLAG_WRITE;
		__entry->exec = fault->flags & FAULT_FLAG_INSTRUCTION;
		__entry->retry = fault->flags & FAULT_FLAG_TRIED;
	),

	TP_printk("address=0x%lx ip=%ps %s %s%s vm_flags=%s seq=0x%x seq_now=0x%x mm_seq=0x%x pmd=0x%lx pmd_now=0x%lx",
		  __entry->address, (void *)__entry->ip,
		  __entry->user ? "user" : "kernel",
		  __entry->write ? "write" : __entry->exec ? "exec" : "read",
		  __entry->retry ? " retry" : "",
		  show_vma_flags(__entry->vm_flags),
		  __entry->seq, __entry->seq_now, __entry->mm_seq,
		  __entry->pmd, __entry->pmd_now)
);

int spf_abort_reg(void);
void spf_abort_unreg(void);

#define SPF_ABORT_EVENT(reason, name)					\
DEFINE_EVENT_FN(spf_abort, spf_##name,					\
	TP_PROTO(const struct spf_fault *fault,				\
		 const struct vm_area_struct *live, unsigned int seq,	\
		 const struct vma_speculation *spf),			\
	TP_ARGS(fault, live, seq, spf),					\
	spf_abort_reg, spf_abort_unreg);

SPF_ABORTS(SPF_ABORT_EVENT)

#endif /* _TRACE_PAGEFAULT_H */

/* This part must be outside protection */
#include <trace/define_trace.h>
