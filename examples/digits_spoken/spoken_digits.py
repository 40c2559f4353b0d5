import argparse, time
from typing import NamedTuple
import numpy as np
import tinyrnn as tr
from spoken import *
BLANK=10
class Batch(NamedTuple):
    features: NDArray; lengths: NDArray; targets: NDArray; target_lengths: NDArray
def build(hidden, seed):
    tr.manual_seed(seed)
    return tr.Sequential({"gru": tr.GRU(BANDS, hidden, bidirectional=True), "head": tr.Linear(2*hidden, 11), "log": tr.LogSoftmax(-1)})
def as_batch(us):
    lengths=np.array([len(u.features) for u in us],np.int32); tl=np.array([len(u.digits) for u in us],np.int32)
    f=np.zeros((lengths.max(),len(us),BANDS),np.float32); t=np.zeros((len(us),tl.max()),np.int32)
    for i,u in enumerate(us): f[:lengths[i],i]=u.features; t[i,:tl[i]]=u.digits
    return Batch(f,lengths,t,tl)
def batches(us,size,gen):
    order=sorted(gen.permutation(len(us)), key=lambda i: len(us[i].features))
    groups=[order[i:i+size] for i in range(0,len(order)-size+1,size)]
    for g in gen.permutation(len(groups)): yield as_batch([us[i] for i in groups[g]])
def collapse(row):
    return [int(s) for s,b in zip(row,[-1,*row[:-1]]) if s!=b and s!=BLANK]
def distance(a,b):
    d=list(range(len(b)+1))
    for i,x in enumerate(a,1):
        p,d[0]=d[0],i
        for j,y in enumerate(b,1): p,d[j]=d[j],min(d[j]+1,d[j-1]+1,p+(x!=y))
    return d[-1]
